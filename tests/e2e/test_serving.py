"""The real server on loopback, a tiny random base, real adapters, and the official client."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import read_model
from finetune.contracts.run import Home
from finetune.tracking.home_store import open_client
from serving.client import call as call_server
from serving.run import running_server

pytestmark = pytest.mark.slow
QUESTION = [{"role": "user", "content": "def add(a, b):"}]


def call(url: str, path: str, body: dict[str, str]) -> None:
    call_server(url, path, expects="status", body=body)


@pytest.fixture(scope="module")
def url(tiny_base: Path, adapters: Path) -> Iterator[str]:
    with running_server(tiny_base, adapters) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120) as one:
        yield one


@pytest.fixture
def shop(url: str, adapters: Path) -> Iterator[str]:
    """The good adapter, served as shop."""
    call(url, "/v1/load_lora_adapter", body={"lora_name": "shop", "lora_path": "good"})
    yield "shop"
    call(url, "/v1/unload_lora_adapter", body={"lora_name": "shop"})


def ask(client: openai.OpenAI, model: str, **options: object) -> str:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, **{"max_tokens": 12, "temperature": 0, **options}
    )
    return answer.choices[0].message.content


def test_the_models_are_the_base_and_what_was_loaded(client, shop):
    cards = {card.id: card for card in client.models.list().data}
    assert set(cards) == {"tiny", "shop"}
    assert cards["shop"].parent == "tiny" and cards["shop"].root.startswith("tiny-")


def test_an_adapter_changes_the_answer_and_leaves_the_base_as_it_was(client, url, adapters):
    before = ask(client, "tiny")
    call(url, "/v1/load_lora_adapter", body={"lora_name": "one", "lora_path": "good"})
    call(url, "/v1/load_lora_adapter", body={"lora_name": "two", "lora_path": str(adapters / "other")})
    answers = [ask(client, model) for model in ("one", "two", "tiny", "one", "two")]
    assert answers[0] == answers[3] and answers[1] == answers[4] and answers[2] == before
    assert len({before, answers[0], answers[1]}) == 3
    for name in ("one", "two"):
        call(url, "/v1/unload_lora_adapter", body={"lora_name": name})
    assert ask(client, "tiny") == before
    with pytest.raises(openai.NotFoundError, match="'one' is not served"):
        ask(client, "one")


def test_a_stream_is_the_whole_answer_in_pieces(client, shop):
    stream = client.chat.completions.create(
        model=shop, messages=QUESTION, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ask(client, shop)
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")
    assert chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices


def test_completions_answer_with_and_without_a_suffix(client):
    plain = client.completions.create(model="tiny", prompt="def add(", max_tokens=8, temperature=0)
    infill = client.completions.create(model="tiny", prompt="def add(", suffix=")", max_tokens=8, temperature=0)
    assert infill.usage.prompt_tokens == plain.usage.prompt_tokens + len(")") + 3
    rendered = "<|fim_prefix|>def add(<|fim_suffix|>)<|fim_middle|>"
    by_hand = client.completions.create(model="tiny", prompt=rendered, max_tokens=8, temperature=0)
    assert by_hand.choices[0].text == infill.choices[0].text


def test_infill_is_what_a_suffix_gives(client, url, shop):
    """And other files and a beginning change it, and come before and behind."""
    plain = client.completions.create(model=shop, prompt="def add(", suffix=")", max_tokens=8, temperature=0)
    body = {"model": shop, "input_prefix": "def add(", "input_suffix": ")", "n_predict": 8, "t_max_predict_ms": 60_000}
    answer = call_server(url, "/infill", expects="content", body=body)
    assert answer["content"] == plain.choices[0].text and answer["model"] == plain.system_fingerprint
    extra = [{"filename": "shop.py", "text": "def price(): return 1"}]
    more = call_server(url, "/infill", expects="content", body={**body, "input_extra": extra, "prompt": "a"})
    assert more["tokens_evaluated"] == answer["tokens_evaluated"] + len("shop.py\ndef price(): return 1") + 1 + 1


def test_a_prompt_that_was_read_is_known_to_its_adapter_alone(client, url, shop):
    """By the client's own types, in a stream too; an editor that warms the cache gets its prompt known."""
    asked = {"messages": [{"role": "user", "content": "What is read twice?"}], "max_tokens": 4, "temperature": 0}
    first, base, again = (client.chat.completions.create(model=model, **asked).usage for model in (shop, "tiny", shop))
    known = [usage.prompt_tokens_details.cached_tokens for usage in (first, base, again)]
    assert known[0] < first.prompt_tokens > known[1] and known[2] == first.prompt_tokens
    stream = client.chat.completions.create(model=shop, stream=True, stream_options={"include_usage": True}, **asked)
    assert list(stream)[-1].usage.prompt_tokens_details.cached_tokens == first.prompt_tokens
    body = {"model": shop, "input_prefix": "def warm(", "input_suffix": ")", "n_predict": 0}
    answer = call_server(url, "/infill", expects="content", body=body)
    assert answer["content"] == "" and answer["tokens_cached"] < answer["tokens_evaluated"]
    answer = call_server(url, "/infill", expects="content", body={**body, "n_predict": 8, "t_max_predict_ms": 60_000})
    assert answer["tokens_cached"] == answer["tokens_evaluated"] and answer["tokens_predicted"] > 0


def test_the_same_seed_gives_the_same_answer(client):
    first, second, other = (ask(client, "tiny", temperature=1.5, seed=seed) for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("truncated", "truncated or replaced"),
        ("wrong_base", "base model has digest"),
        ("zero", "does not change the base's answer"),
        ("liar", "apart from the record"),
        ("absent", "no adapter 'absent'"),
        ("../../etc", "inside the server's adapters folder"),
        ("/etc", "inside the server's adapters folder"),
    ],
)
def test_a_wrong_adapter_is_refused_and_the_server_goes_on(client, url, shop, adapters, folder, words):
    before = ask(client, "tiny"), ask(client, shop)
    with pytest.raises(openai.APIStatusError) as caught:
        client.post("/load_lora_adapter", body={"lora_name": "bad", "lora_path": folder}, cast_to=object)
    assert caught.value.status_code in (400, 404, 409)
    message = caught.value.body["message"]
    assert words in message and str(adapters.parent) not in caught.value.response.text
    assert {card.id for card in client.models.list().data} == {"tiny", "shop"}
    assert (ask(client, "tiny"), ask(client, shop)) == before


def test_a_refused_first_adapter_leaves_the_base_bare(client, url):
    before = ask(client, "tiny")
    for folder in ("zero", "liar"):
        with pytest.raises(openai.ConflictError):
            client.post("/load_lora_adapter", body={"lora_name": "bad", "lora_path": folder}, cast_to=object)
    assert ask(client, "tiny") == before


def test_a_client_that_hangs_up_frees_the_model(client):
    with client.completions.create(model="tiny", prompt="a", max_tokens=2000, stream=True, temperature=2) as stream:
        next(iter(stream))
    started = time.monotonic()
    client.completions.create(model="tiny", prompt="a", max_tokens=1)
    assert time.monotonic() - started < 2


def reading(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    samples = [one for family in families for one in family.samples]
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def test_a_client_that_hangs_up_is_counted_as_cancelled(client, url):
    # those of others may still be noticed
    assert becomes(lambda: reading(url, "finetune_requests_running"), 0)
    before = reading(url, "finetune_answers_total", outcome="cancelled")
    # a random base ends an answer after some 40 tokens; of so many one still runs when the client goes
    asked = {"model": "tiny", "prompt": "a", "max_tokens": 2000, "temperature": 2, "n": 16}
    with client.completions.create(**asked, stream=True) as stream:
        next(iter(stream))
        assert reading(url, "finetune_requests_running") > 0
        assert reading(url, "finetune_answers_total", outcome="cancelled") == before
    assert becomes(lambda: reading(url, "finetune_answers_total", outcome="cancelled") > before, True)
    assert becomes(lambda: reading(url, "finetune_requests_running"), 0)
    assert reading(url, "finetune_http_requests_total", status="499") == 0


def test_a_hundred_loads_and_unloads_leave_nothing_behind(client, url):
    """No slot, lease, version, thread or open file; memory is measured by bench/serve_load.py."""
    process = psutil.Process()
    # connections that are kept and the loop's pool of threads come and go by a few; what is left each time is a hundred
    few = 10

    def held() -> list[float]:
        names = ("finetune_adapters", "finetune_adapter_active_requests", "finetune_adapter_bytes")
        return [reading(url, name) for name in names]

    def cycle() -> None:
        call(url, "/v1/load_lora_adapter", body={"lora_name": "guest", "lora_path": "other"})
        ask(client, "guest", max_tokens=1)
        call(url, "/v1/unload_lora_adapter", body={"lora_name": "guest"})

    for _ in range(5):
        cycle()
    files, threads = process.num_fds(), threading.active_count()
    for _ in range(100):
        cycle()
    assert becomes(held, [0, 0, 0])
    assert becomes(lambda: process.num_fds() < files + few, True)
    assert threading.active_count() < threads + few


def becomes(read: Callable[[], object], expected: object) -> bool:
    """Whether what is read is as expected within ten seconds."""
    deadline = time.monotonic() + 10
    while (found := read()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return found == expected


def point(url: str, adapter: str) -> None:
    call(url, "/v1/adapters/alias", body={"alias": "team", "adapter": adapter})


def test_a_killed_server_serves_the_same_when_it_is_started_again(tiny_base, adapters, tmp_path):
    """kill -9 while eight clients read, then the same command; the folder that it was loaded from may be gone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "home"
    shutil.copytree(adapters, home / "adapters")
    command = [sys.executable, "-m", "finetune", "serve", "start", str(tiny_base), "--port", str(port)]
    command += ["--home", str(home), "--json"]
    address = f"http://127.0.0.1:{port}"

    def fingerprint() -> str | None:
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=120) as client:
            answer = client.chat.completions.create(model="team", messages=QUESTION, max_tokens=2)
        return answer.system_fingerprint

    with ThreadPoolExecutor(8) as pool:
        with started(command):
            point(address, "good")
            point(address, "other")
            before = fingerprint()
            all_streaming = threading.Barrier(9)
            streams = [pool.submit(stream_until_killed, address, all_streaming) for _ in range(8)]
            all_streaming.wait(timeout=60)
        assert all(isinstance(stream.exception(timeout=60), openai.APIConnectionError) for stream in streams)
    for name in ("good", "other"):
        (home / "adapters" / name).rename(tmp_path / name)
    with started(command):
        assert fingerprint() == before
        call(address, "/v1/adapters/rollback", body={"alias": "team"})
        assert fingerprint() != before
    with started([*command, "--adapter", f"team={tmp_path / 'other'}"]):
        assert fingerprint() == before


def stream_until_killed(address: str, all_streaming: threading.Barrier) -> None:
    """Read a stream; all_streaming is passed when the first token has come."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=120) as client:
        chunks = client.completions.create(
            model="team",
            prompt="def add(",
            max_tokens=2000,
            temperature=2,
            # of four answers some have not even begun when the last client has its first token
            n=4,
            stream=True,
        )
        next(chunks)
        all_streaming.wait(timeout=60)
        for _ in chunks:
            pass


def test_a_name_follows_the_registry(client, url, adapters, tmp_path):
    """Promoting by hand: the alias moves in MLflow's store, and the endpoint answers with that adapter."""
    home = Home(tmp_path / "home")
    store = open_client(home)
    store.create_registered_model("tiny")
    ids = {}
    for name in ("good", "other"):
        manifest = read_model(adapters / name / "manifest.json", AdapterManifest, error=AdapterError, hint="")
        ids[name] = manifest.adapter_id
        shutil.copytree(adapters / name, adapters / manifest.adapter_id, dirs_exist_ok=True)
        store.create_model_version("tiny", source=home.adapters.as_uri(), tags={"adapter_id": manifest.adapter_id})
    command = [sys.executable, "-m", "finetune", "serve", "follow", "followed=tiny", "--url", url, "--every", "0.2"]
    with subprocess.Popen([*command, "--home", str(home.root)], stderr=subprocess.DEVNULL) as process:
        try:
            for version, name in (("1", "good"), ("2", "other"), ("1", "good")):
                store.set_registered_model_alias("tiny", "champion", version)
                assert moved(client, "followed", to=ids[name])
            store.delete_registered_model_alias("tiny", "champion")
            assert moved(client, "followed", to=None)
        finally:
            process.terminate()


def moved(client: openai.OpenAI, name: str, *, to: str | None) -> bool:
    """Whether name stands for that adapter within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if {card.id: card.root for card in client.models.list().data}.get(name) == to:
            return True
        time.sleep(0.05)
    return False


@contextmanager
def started(command: list[str]) -> Iterator[None]:
    """A server that has said that it is ready, killed at the end."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout and "{" in process.stdout.readline()
            yield
        finally:
            process.kill()
