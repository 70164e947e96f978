"""The gateway over three stand-ins of vLLM servers, each a process of its own: nothing is mixed, torn or forgotten."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from finetune.contracts.adapter import AdapterDigests
from finetune.contracts.io import digest_file, digest_text
from finetune.model.identity import read_identity
from finetune.model.loading import load_tokenizer
from tests.e2e.fake_vllm import answer_tokens, content_of
from tests.e2e.gateways import PROMPT, SECONDS, FakeServer, ask, gateway_over, point, streamed, text_of, wait_until
from tests.unit.serving.conftest import save_bare_adapter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers() -> Iterator[list[FakeServer]]:
    found = [FakeServer() for _ in range(3)]
    for one in found:
        one.start()
    for one in found:
        one.wait()
    yield found
    for one in found:
        one.kill()


@pytest.fixture(autouse=True)
def sound(servers: list[FakeServer], gateway: httpx.Client) -> Iterator[None]:
    """Every test begins and ends with whole servers and no adapter."""
    yield
    for one in servers:
        if not one.answers():
            one.start()
            one.wait()
        one.fault()
    for card in gateway.get("/v1/adapters").json()["data"]:
        gateway.post("/v1/unload_lora_adapter", json={"lora_name": card["name"]})
    wait_until(lambda: not any(one.names for one in servers))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Adapters red, blue and green over the tiny base."""
    root = tmp_path_factory.mktemp("home")
    tokenizer = load_tokenizer(tiny_base)
    for number, name in enumerate(("red", "blue", "green")):
        folder = save_bare_adapter(root / "adapters" / name, content=number)
        digests = AdapterDigests(
            weights=digest_file(folder / "adapter_model.safetensors"),
            chat_template=digest_text(tokenizer.chat_template),
            tokenizer=digest_file(tiny_base / "tokenizer.json"),
            dataset=digest_text("dataset"),
            recipe=digest_text("recipe"),
        )
        change_manifest(folder, base=read_identity(tiny_base), digests=digests)
    return root


def change_manifest(folder: Path, **changes: object) -> None:
    from finetune.contracts.adapter_files import read_manifest, write_manifest

    write_manifest(folder, read_manifest(folder).model_copy(update=changes))


@pytest.fixture(scope="module")
def gateway(servers: list[FakeServer], home: Path, tiny_base: Path) -> Iterator[httpx.Client]:
    with gateway_over(tiny_base, home, [one.url for one in servers], drain_seconds=10.0) as client:
        yield client


@pytest.fixture(scope="module")
def expected(home: Path, tiny_base: Path) -> Callable[..., str]:
    """The text of an answer by an adapter, None: the base, to a prompt."""
    tokenizer = load_tokenizer(tiny_base)

    def text(name: str | None, prompt: str = PROMPT, num_tokens: int = 16) -> str:
        content = "base" if name is None else content_of(copied(home, name) / "adapter_model.safetensors")
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        return tokenizer.decode(answer_tokens(content, ids, num_tokens))

    return text


def copied(home: Path, name: str) -> Path:
    from finetune.contracts.adapter_files import read_manifest

    adapter_id = read_manifest(home / "adapters" / name).adapter_id
    (found,) = home.glob(f"replicas/*/{adapter_id}.*")
    return found


def test_each_name_is_answered_by_its_adapter_on_every_server(gateway, servers, expected):
    assert point(gateway, "shop", "red").status_code == 200
    assert point(gateway, "team", "blue").status_code == 200
    assert len(servers[0].names) == 2 and all(one.names == servers[0].names for one in servers)
    with ThreadPoolExecutor(6) as pool:
        asked = [(model, f"prompt {number}") for number in range(10) for model in ("shop", "team", "tiny")]
        answers = list(pool.map(lambda one: text_of(ask(gateway, *one)), asked))
    adapters = {"shop": "red", "team": "blue", "tiny": None}
    assert answers == [expected(adapters[model], prompt) for model, prompt in asked]
    assert len(set(answers)) == len(answers)
    assert all(any(event.startswith("answer") for event in one.seen["events"]) for one in servers)


def test_log_probabilities_and_counts_come_through(gateway, expected):
    document = ask(gateway, "tiny", logprobs=2).json()
    found = document["choices"][0]["logprobs"]
    assert "".join(found["tokens"]) == expected(None) and found["token_logprobs"] == [-0.5] * 16
    assert [sorted(row.values()) for row in found["top_logprobs"]] == [[-1.5, -0.5]] * 16
    usage = document["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len(PROMPT), 16)


def test_a_stop_text_ends_the_answer_here_and_over_there(gateway, servers, expected):
    whole = expected(None, num_tokens=400)
    stop = whole[5:7]
    for one in servers:
        one.fault(token_seconds=0.01)
    answer = ask(gateway, "tiny", stop=stop, max_tokens=400).json()
    assert answer["choices"][0]["text"] == whole[: whole.index(stop)]
    assert answer["choices"][0]["finish_reason"] == "stop"
    wait_until(lambda: not any(one.seen["num_running"] for one in servers))
    assert sum(one.seen["num_cut"] for one in servers) >= 1


@pytest.mark.parametrize(("switch", "words"), [("load_fails", "status 500"), ("ignores", "does not change the base")])
def test_one_server_that_refuses_leaves_nothing_on_any(gateway, servers, home, switch, words):
    servers[1].fault(**{switch: True})
    answer = point(gateway, "shop", "red")
    assert answer.status_code == 409 and words in answer.json()["error"]["message"]
    assert str(home) not in answer.text
    assert not any(one.names for one in servers)
    assert not list(home.glob("replicas/*/*"))
    assert ask(gateway, "shop").status_code == 404
    assert gateway.get("/readyz").status_code == 200


def test_a_name_moves_when_every_server_has_the_adapter(gateway, servers, expected):
    point(gateway, "shop", "red")
    servers[2].fault(load_seconds=1.0)
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(point, gateway, "shop", "blue")
        wait_until(lambda: len(servers[0].names) == 2)
        before = [text_of(ask(gateway, "shop")) for _ in range(5)]
        assert not moving.done()
        assert moving.result().status_code == 200
    assert set(before) == {expected("red")}
    assert all(len(one.names) == 2 for one in servers)
    assert text_of(ask(gateway, "shop")) == expected("blue")


def test_a_killed_server_loses_its_own_streams_and_gets_all_back_before_it_answers(gateway, servers, expected):
    point(gateway, "shop", "red")
    point(gateway, "team", "blue")
    for one in servers:
        one.fault(token_seconds=0.05)
    counted, lock = [0], threading.Condition()

    def begun() -> None:
        with lock:
            counted[0] += 1
            lock.notify()

    asked = [(("shop", "team")[number % 2], f"prompt {number}") for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        streams = [pool.submit(streamed, gateway, *one, 40, begun) for one in asked]
        wait_until(lambda: sum(one.seen["num_running"] for one in servers) == 12)
        num_lost = servers[0].seen["num_running"]
        with lock:
            assert lock.wait_for(lambda: counted[0] >= 12, SECONDS)
        servers[0].kill()
        documents = [one.result() for one in streams]
    lost = 0
    for (model, prompt), found in zip(asked, documents, strict=True):
        text = "".join(one["choices"][0]["text"] for one in found if "choices" in one)
        whole = expected({"shop": "red", "team": "blue"}[model], prompt, 40)
        if "error" in found[-1]:
            lost += 1
            assert whole.startswith(text) and "vLLM server" in found[-1]["error"]["message"]
        else:
            assert text == whole
    assert lost == num_lost > 0
    assert gateway.get("/readyz").status_code == 200
    assert {text_of(ask(gateway, "shop")) for _ in range(6)} == {expected("red")}
    # the first of equals is asked, so a request to the base would go there at once
    servers[0].start(load_seconds=0.5)
    servers[0].wait()
    wait_until(lambda: text_of(ask(gateway, "tiny")) and any("answer" in one for one in servers[0].seen["events"]))
    events = [event.split()[0] for event in servers[0].seen["events"]]
    assert events[:3] == ["load", "load", "answer"] and servers[0].names == servers[1].names


def test_what_broke_before_its_first_token_is_asked_of_another_server(gateway, servers, expected):
    point(gateway, "shop", "red")
    servers[0].fault(tear_after=0)
    servers[1].fault(tear_after=0)
    assert {text_of(ask(gateway, "shop", f"prompt {number}")) for number in range(4)} == {
        expected("red", f"prompt {number}") for number in range(4)
    }


def test_a_sick_fleet_is_not_ready_and_says_so(gateway, servers, expected):
    for one in servers:
        one.fault(sick=True)
    wait_until(lambda: gateway.get("/readyz").status_code == 503)
    answer = ask(gateway, "tiny")
    assert answer.status_code == 503 and "No vLLM server" in answer.json()["error"]["message"]
    assert point(gateway, "shop", "red").status_code == 503
    for one in servers:
        one.fault()
    wait_until(lambda: gateway.get("/readyz").status_code == 200)
    assert text_of(ask(gateway, "tiny")) == expected(None)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}),
    ],
)
def test_what_is_not_passed_on_is_refused_by_name(gateway, param, value):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], param: value}
    answer = gateway.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param
    assert "not served over vLLM" in answer.json()["error"]["message"]


def test_a_client_that_hangs_up_ends_the_answer_over_there(gateway, servers):
    for one in servers:
        one.fault(token_seconds=0.05)
    before = sum(one.seen["num_cut"] for one in servers)
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 400, "stream": True}
    with gateway.stream("POST", "/v1/completions", json=body) as answer:
        next(answer.iter_lines())
    wait_until(lambda: sum(one.seen["num_cut"] for one in servers) == before + 1)
    assert not any(one.seen["num_running"] for one in servers)


def test_no_answer_is_mixed_while_a_name_moves(gateway, servers, expected):
    point(gateway, "shop", "red")
    moving, texts, prompts = True, {}, [f"prompt {number}" for number in range(8)]

    def keep_asking(prompt: str) -> None:
        while moving:
            texts.setdefault(prompt, []).append(text_of(ask(gateway, "shop", prompt)))

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(keep_asking, prompt) for prompt in prompts]
        try:
            for number in range(12):
                assert point(gateway, "shop", ("blue", "red")[number % 2]).status_code == 200
        finally:
            moving = False
        for one in asking:
            one.result()
    for prompt in prompts:
        assert texts[prompt] and set(texts[prompt]) <= {expected("red", prompt), expected("blue", prompt)}
