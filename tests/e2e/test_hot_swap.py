"""Adapters that change while a server answers, over a hybrid and a full-attention base: none torn, lost or mixed.

Each expected answer is that of PEFT over the base, one full pass a token.
"""

import shutil
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from finetune.contracts.adapter_files import list_files, read_manifest
from finetune.contracts.io import digest_file
from tests.e2e.conftest import change_manifest, save_adapter
from tests.e2e.swap_site import Endpoint, Reference, Site, endpoint, wait_for

pytestmark = pytest.mark.slow
ADAPTERS = ("v1", "v2", "v3")
MAX_ADAPTER_BYTES = 4 << 20
# The first tokens of the byte tokenizer, each a character: texts that are alike are then of the same tokens
NUM_PRINTABLE = 94


@pytest.fixture(scope="module", params=["qwen3_5", "qwen3"])
def site(request, unit, tmp_path_factory) -> Site:
    """v1, v2 and v3, which act; read-only."""
    base = unit.save_family_base(tmp_path_factory.mktemp("bases") / request.param)
    speak_plainly(base)
    made = Site(base, tmp_path_factory.mktemp("home"))
    for seed, name in enumerate(ADAPTERS):
        save_adapter(made.adapters / name, base, scale=0.6, seed=seed, dtype="float32")
    return made


def speak_plainly(base: Path) -> None:
    """Let the base of random weights choose printable characters alone: no answer ends before its time."""
    from safetensors.torch import load_file, save_file

    path = base / "model.safetensors"
    state = load_file(path)
    state["lm_head.weight"][NUM_PRINTABLE:] = 0
    save_file(state, path, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def expected(site) -> Reference:
    return Reference(site, ADAPTERS)


@pytest.fixture(scope="module")
def served(site, tmp_path_factory) -> Iterator[Endpoint]:
    with endpoint(site.copied(tmp_path_factory.mktemp("served") / "home"), max_adapter_bytes=MAX_ADAPTER_BYTES) as one:
        yield one


@pytest.fixture
def swap(served) -> Iterator[Endpoint]:
    """The server with nothing on it, and nothing left on it after."""
    assert served.adapters()["versions"] == []
    yield served
    for name in served.names():
        served.unload(name)
    wait_for(lambda: served.adapters()["versions"] == [])
    assert served.engine._slots.num_ranks == 0


def test_the_adapters_and_the_base_answer_differently(expected):
    assert len({expected.text(name) for name in (None, *ADAPTERS)}) == 4


def test_a_running_stream_keeps_its_adapter_and_the_next_request_has_the_new_one(swap, site, expected):
    """The name moves, with the new adapter's load, between two tokens of the stream."""
    swap.load("team", "v1")
    stream = swap.stream("team", max_tokens=60)
    chunks = [next(stream)]
    with swap.held():
        swap.load("team", "v2")
        assert swap.num_active() == 1
    chunks += stream
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected.text("v1", max_tokens=60)
    assert {chunk.system_fingerprint for chunk in chunks} == {site.id_of("v1")}
    after = swap.answer("team", max_tokens=60)
    assert after.choices[0].text == expected.text("v2", max_tokens=60)
    assert after.system_fingerprint == site.id_of("v2")
    swap.roll_back("team")
    assert swap.ask("team") == expected.text("v1")


def test_no_request_is_lost_or_mixed_while_a_name_moves(swap, site, expected):
    """8 clients, 20 moves, at least one answer between two moves."""
    names = {site.id_of(name): name for name in ("v1", "v2")}
    swap.load("team", "v1")
    moving, answered = threading.Event(), Counter[str]()
    moving.set()

    def keep_asking(number: int) -> None:
        while moving.is_set():
            answer = swap.answer("team", max_tokens=4 + number)
            name = names[answer.system_fingerprint]
            assert answer.choices[0].text == expected.text(name, max_tokens=4 + number)
            answered[name] += 1

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(keep_asking, number) for number in range(8)]
        try:
            for move in range(20):
                name = ("v2", "v1")[move % 2]
                swap.load("team", name)
                before = answered[name]
                wait_for(lambda name=name, before=before: answered[name] > before or any(c.done() for c in clients))
        finally:
            moving.clear()
        for client in clients:
            client.result()
    assert min(answered.values()) >= 10


def test_a_batch_of_several_adapters_and_the_base_answers_as_each_alone(swap, expected):
    for name in ADAPTERS:
        swap.load(name, name)
    wanted = [*ADAPTERS, None] * 2
    base = swap.client.models.list().data[0].id
    with ThreadPoolExecutor(len(wanted)) as pool:
        with swap.held():
            answers = [pool.submit(swap.ask, name or base, max_tokens=17 + place) for place, name in enumerate(wanted)]
            wait_for(lambda: swap.engine._scheduler._num_open == len(wanted))
        for place, (answer, name) in enumerate(zip(answers, wanted, strict=True)):
            assert answer.result() == expected.text(name, max_tokens=17 + place)


def test_names_that_look_alike_or_like_something_else_are_kept_apart(swap, expected):
    names = ["v1", "v10", "team-a", "team-ab", "a.b", "a.b.c", "lora_A", "default", "x.lora_B.weight", "None"]
    wanted = {name: ADAPTERS[number % 3] for number, name in enumerate(names)}
    for name, adapter in wanted.items():
        swap.load(name, adapter)
    assert {name: swap.ask(name) for name in names} == {name: expected.text(wanted[name]) for name in names}
    for name in ("v1", "team-a", "a.b"):
        swap.unload(name)
        del wanted[name]
    swap.load("lora_A", "v2")
    wanted["lora_A"] = "v2"
    assert swap.names() == set(wanted)
    assert {name: swap.ask(name) for name in wanted} == {name: expected.text(one) for name, one in wanted.items()}
    with pytest.raises(openai.NotFoundError):
        swap.ask("team-a")


def test_folders_that_vanish_leave_what_is_resident_alone(site, expected, tmp_path):
    """First those that it was loaded from, then the copies as well."""
    own = site.copied(tmp_path / "home")
    with endpoint(own) as swap:
        swap.load("team", "v1")
        swap.load("team", "v2")
        swap.load("other", "v1")
        for folder in (own.adapters / "v1", own.adapters / "v2", own.home / "served" / "store"):
            shutil.rmtree(folder)
            assert swap.ask("team") == expected.text("v2") and swap.ask("other") == expected.text("v1")
        swap.roll_back("team")
        assert swap.ask("team") == expected.text("v1")
        swap.load("new", "v3")
        assert swap.ask("new") == expected.text("v3")
        with pytest.raises(openai.NotFoundError):
            post(swap, "gone", "v1")


def post(swap: Endpoint, name: str, adapter: str) -> None:
    swap.client.post("/load_lora_adapter", body={"lora_name": name, "lora_path": adapter}, cast_to=object)


@pytest.fixture(scope="module")
def bad(served, unit, tmp_path_factory) -> dict[str, str]:
    """Folders of adapters that must be refused, each with words of the refusal."""
    root, base = served.site.adapters, served.site.base
    for name in ("truncated", "altered", "oversize", "pickled", "infinite"):
        shutil.copytree(root / "v1", root / name)
    weights = {name: root / name / "adapter_model.safetensors" for name in ("truncated", "altered")}
    content = weights["altered"].read_bytes()
    weights["truncated"].write_bytes(content[:-100])
    weights["altered"].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with (root / "oversize" / "notes.md").open("wb") as stream:
        stream.truncate(MAX_ADAPTER_BYTES)
    (root / "pickled" / "training_args.bin").write_bytes(b"x")
    make_infinite(root / "infinite")
    save_adapter(root / "idle", base, scale=0.0, dtype="float32")
    other = unit.save_family_base(tmp_path_factory.mktemp("other") / base.name, seed=1)
    save_adapter(root / "foreign", other, scale=0.6, dtype="float32")
    return {
        "truncated": "truncated or replaced",
        "altered": "it was altered",
        "oversize": "is the limit here",
        "pickled": "may not lie in an adapter",
        "infinite": "is not finite",
        "idle": "does not change the base's answer",
        "foreign": "base model has digest",
        "absent": "no adapter 'absent'",
    }


def make_infinite(folder: Path) -> None:
    """One weight that is no number, under digests that fit: the manifest of a run that diverged, or a forgery."""
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    max(state.items())[1][0, 0] = float("inf")
    save_file(state, path)
    digests = read_manifest(folder).digests.model_copy(update={"weights": digest_file(path)})
    change_manifest(folder, files=list_files(folder), digests=digests)


def test_adapters_that_are_wrong_are_refused_and_nobody_else_notices(swap, bad, expected):
    """50 bad loads while good requests run, then a good load."""
    swap.load("team", "v1")
    base = swap.client.models.list().data[0].id
    loading = threading.Event()
    loading.set()

    def keep_asking(model: str, name: str | None) -> int:
        number = 0
        while loading.is_set() or not number:
            assert swap.ask(model) == expected.text(name)
            number += 1
        return number

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(keep_asking, *one) for one in (("team", "v1"), (base, None)) * 2]
        try:
            for number in range(50):
                folder, words = list(bad.items())[number % len(bad)]
                with pytest.raises(openai.APIStatusError) as caught:
                    post(swap, "bad", folder)
                assert words in str(caught.value) and caught.value.status_code in (400, 404, 409)
                assert str(swap.site.home) not in caught.value.response.text
        finally:
            loading.clear()
        assert all(client.result() for client in clients)
    assert swap.names() == {"team"} and len(swap.adapters()["versions"]) == 1
    swap.load("new", "v2")
    assert swap.ask("new") == expected.text("v2")


def test_a_client_that_leaves_gives_its_adapter_back(swap):
    swap.load("team", "v1")
    with swap.stream("team", max_tokens=2000) as stream:
        next(stream)
        assert swap.num_active() == 1
    wait_for(lambda: swap.num_active() == 0)
    swap.unload("team")
    assert swap.adapters()["versions"] == []


def test_a_stream_that_outstays_the_drain_is_ended_with_words(site, expected, tmp_path):
    with endpoint(site.copied(tmp_path / "home"), drain_seconds=0.2) as swap:
        swap.load("team", "v1")
        swap.load("other", "v2")
        stream = swap.stream("team", max_tokens=2000)
        next(stream)
        with swap.held():
            swap.unload("team")
        with pytest.raises(openai.APIError, match="was replaced and its time to finish is over"):
            list(stream)
        assert swap.ask("other") == expected.text("v2")
        wait_for(lambda: len(swap.adapters()["versions"]) == 1)


def test_a_restart_serves_the_same_though_the_folders_are_gone(site, expected, tmp_path):
    own = site.copied(tmp_path / "home")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with endpoint(own, port=port) as swap:
        swap.load("team", "v1")
        swap.load("team", "v2")
        swap.load("beta", "v3")
        swap.load("gone", "v3")
        swap.unload("gone")
    shutil.rmtree(own.adapters)
    with endpoint(own, port=port) as swap:
        assert swap.names() == {"team", "beta"}
        assert (swap.ask("team"), swap.ask("beta")) == (expected.text("v2"), expected.text("v3"))
        swap.roll_back("team")
        swap.unload("beta")
        assert swap.ask("team") == expected.text("v1")
    with endpoint(own, port=port) as swap:
        assert swap.names() == {"team"} and swap.ask("team") == expected.text("v1")


def test_the_same_prompt_gives_each_adapter_s_own_answer_whoever_asked_before(swap, expected):
    """Longer than a piece of a prompt, and one more that begins alike."""
    prompt = "def total(cart):\n" + "    # prices are whole cents, and a cart is a list of lines\n" * 12
    swap.load("team", "v1")
    base = swap.client.models.list().data[0].id
    for model, name in (("team", "v1"), ("team", "v1"), (base, None)):
        assert swap.ask(model, prompt, max_tokens=8) == expected.text(name, prompt, max_tokens=8)
    swap.load("team", "v2")
    for model, name in (("team", "v2"), (base, None), ("team", "v2")):
        assert swap.ask(model, prompt, max_tokens=8) == expected.text(name, prompt, max_tokens=8)
    swap.roll_back("team")
    longer = prompt + "    return"
    assert swap.ask("team", prompt, max_tokens=8) == expected.text("v1", prompt, max_tokens=8)
    assert swap.ask("team", longer, max_tokens=8) == expected.text("v1", longer, max_tokens=8)


def test_adapters_that_come_and_go_leave_nothing_behind(swap, expected):
    """50 times, under other names and in other slots, while another adapter is asked."""
    swap.load("team", "v1")
    store, ranks = swap.site.home / "served" / "store", swap.engine._slots.num_ranks
    before = sorted(path.name for path in store.iterdir())
    coming = threading.Event()
    coming.set()

    def keep_asking() -> int:
        number = 0
        while coming.is_set() or not number:
            assert swap.ask("team", max_tokens=6) == expected.text("v1", max_tokens=6)
            number += 1
        return number

    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(keep_asking)
        try:
            for number in range(50):
                name = ("v2", "v3")[number % 2]
                swap.load(f"n{number}", name)
                if number % 10 == 0:
                    assert swap.ask(f"n{number}") == expected.text(name)
                swap.unload(f"n{number}")
        finally:
            coming.clear()
        assert client.result()
    assert len(swap.adapters()["versions"]) == 1 and swap.engine._slots.num_ranks == ranks
    assert sorted(path.name for path in store.iterdir()) == before
