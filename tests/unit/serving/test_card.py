"""The server leaves its card while a job wants it, over a fake engine and a real lock, and comes back with the same."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient

from finetune.contracts.card import Card, CardJob, CardServer
from finetune.contracts.errors import BaseModelError
from serving.adapters.desired import StateFile
from serving.adapters.registry import AdapterRegistry
from serving.app import create_app
from serving.card import CardHold, CardWatch
from serving.engines.yielding import YieldingEngine

SHOP = {"lora_name": "shop", "lora_path": "shop-1"}
ASK = {"model": "shop", "prompt": "x"}


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def engines(make_engine):
    """Every engine that was loaded, the newest last; what load raises instead when problems holds some."""
    return Engines(make_engine)


class Engines:
    def __init__(self, make) -> None:
        self.made: list = []
        self.problems: list[Exception] = []
        self.spare = None
        self._make = make

    def load(self):
        if self.problems:
            raise self.problems.pop()
        self.made.append(self.spare or self._make())
        return self.made[-1]


@pytest.fixture
def card(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.card.POLL_SECONDS", 0.02)
    monkeypatch.setattr("serving.card.FIRST_RETRY_SECONDS", 0.02)
    return Card(tmp_path / "cards" / "cpu")


@pytest.fixture
def state(tmp_path):
    return tmp_path / "served.json"


@pytest.fixture
def client(engines, store, settings, card, state):
    settings = settings.model_copy(update={"drain_seconds": 0.5, "max_adapters": 4})
    told = CardServer(pid=os.getpid(), url="http://127.0.0.1", yields=True, drain_seconds=settings.drain_seconds)
    with CardHold(card, told) as hold:
        assert hold.take() is None
        engine = YieldingEngine(engines.load)
        registry = AdapterRegistry(engine, store, max_adapters=settings.max_adapters, state=StateFile(state))
        watch = CardWatch(hold, engine, registry)
        app = create_app(engine, store, settings=settings, registry=registry, watch=watch)
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as one:
            yield one


@contextmanager
def job(card: Card):
    """A job that has the card while the block runs."""
    with card.wanted(CardJob(pid=os.getpid(), does="finetune train shop")):
        wait_until(lambda: not card.servers())
        yield


def is_back(client) -> bool:
    return client.get("/readyz").status_code == 200


def test_requests_are_refused_while_the_card_is_away_and_answered_as_before_when_it_is_back(client, card, engines):
    client.post("/v1/load_lora_adapter", json=SHOP)
    before = client.post("/v1/completions", json=ASK).json()
    with job(card):
        answer = client.post("/v1/completions", json=ASK)
        assert answer.status_code == 503 and answer.headers["Retry-After"] == "30"
        assert answer.json()["error"]["code"] == "card_in_use" and "finetune train shop" in answer.text
        ready = client.get("/readyz")
        assert ready.status_code == 503 and "finetune train shop" in ready.json()["reason"]
        assert client.get("/livez").status_code == 200
        assert {one["id"] for one in client.get("/v1/models").json()["data"]} == {"base", "shop"}
        assert engines.made[0].closed
    wait_until(lambda: is_back(client))
    after = client.post("/v1/completions", json=ASK).json()
    assert after["choices"] == before["choices"] and after["system_fingerprint"] == before["system_fingerprint"]
    assert len(engines.made) == 2 and engines.made[1].slots == ["slot000000"]
    assert [one.pid for one in card.servers()] == [os.getpid()]


def hang(client, engine) -> tuple[threading.Thread, list]:
    """A request that runs until its engine lets it end, and its answer once there is one."""
    engine.hang, answers = True, []
    asked = len(engine.generations)
    thread = threading.Thread(
        target=lambda: answers.append(client.post("/v1/completions", json={**ASK, "model": "base"}))
    )
    thread.start()
    wait_until(lambda: len(engine.generations) > asked)
    return thread, answers


def test_an_answer_that_runs_may_end_and_new_ones_may_not_begin(client, card, engines):
    thread, answers = hang(client, engines.made[0])
    with card.wanted(CardJob(pid=1, does="finetune train shop")):
        wait_until(lambda: not is_back(client))
        assert client.post("/v1/completions", json={**ASK, "model": "base"}).status_code == 503
        assert card.servers() and not engines.made[0].closed
        engines.made[0].generations[0].release()
        thread.join()
        assert answers[0].status_code == 200
        wait_until(lambda: not card.servers())
        assert engines.made[0].closed


def test_an_answer_that_does_not_end_is_ended(client, card, engines):
    thread, answers = hang(client, engines.made[0])
    with job(card):
        thread.join()
        assert answers[0].status_code == 503 and "gave its card away" in answers[0].json()["error"]["message"]


def test_a_job_that_gives_up_while_answers_end_costs_no_reload(client, card, engines):
    thread, answers = hang(client, engines.made[0])
    with card.wanted(CardJob(pid=1, does="finetune train shop")):
        wait_until(lambda: not is_back(client))
    wait_until(lambda: is_back(client))
    engines.made[0].generations[0].release()
    thread.join()
    assert answers[0].status_code == 200 and len(engines.made) == 1
    assert client.post("/v1/load_lora_adapter", json=SHOP).status_code == 200


def test_a_base_that_cannot_be_loaded_is_tried_again(client, card, engines):
    with job(card):
        engines.problems = [BaseModelError("No memory.", "Wait."), RuntimeError("the driver is away")]
    wait_until(lambda: is_back(client))
    assert len(engines.made) == 2 and not engines.problems


def test_another_base_in_the_folder_is_not_served_under_the_old_name(client, card, engines, make_engine):
    with job(card):
        other = make_engine()
        other.description = None
        engines.spare = other
    wait_until(lambda: other.closed)
    assert not is_back(client)


def damage_copy(root, adapter: str) -> None:
    """Put other weights into the copy that is served of an adapter."""
    weights = (root / adapter / "adapter_model.safetensors").read_bytes()
    for path in (root.parent / "served").rglob("adapter_model.safetensors"):
        if path.read_bytes() == weights:
            path.chmod(0o644)
            path.write_bytes(weights[:-1] + b"x")


def test_an_adapter_that_is_damaged_is_not_served_and_the_others_are(client, card, root, make_adapter):
    make_adapter(root / "shop-2", content=1)
    client.post("/v1/load_lora_adapter", json=SHOP)
    client.post("/v1/load_lora_adapter", json={"lora_name": "team", "lora_path": "shop-2"})
    with job(card):
        damage_copy(root, "shop-1")
    wait_until(lambda: is_back(client))
    assert client.post("/v1/completions", json={**ASK, "model": "team"}).status_code == 200
    assert client.post("/v1/completions", json=ASK).status_code == 404


@pytest.fixture
def ids(root, make_adapter):
    """Ids of three adapters in the folders shop-1, shop-2 and shop-3."""
    for number in (2, 3):
        make_adapter(root / f"shop-{number}", content=number)
    return [json.loads((root / f"shop-{number}" / "manifest.json").read_text())["adapter_id"] for number in (1, 2, 3)]


def move(client, name: str, adapter: str) -> int:
    return client.post("/v1/adapters/alias", json={"alias": name, "adapter": adapter}).status_code


def answers_with(client, name: str) -> str:
    return client.post("/v1/completions", json={**ASK, "model": name}).json().get("system_fingerprint", "")


def test_what_is_loaded_while_the_card_is_away_is_served_when_it_is_back(client, card, root, ids, state):
    move(client, "shop", "shop-1")
    with job(card):
        assert move(client, "shop", "shop-2") == move(client, "new", "shop-3") == 202
        waiting = client.get("/v1/adapters").json()["waiting"]
        assert [(one["name"], one["adapter_id"], one["previous"]) for one in waiting] == [
            ("shop", ids[1], ids[0]),
            ("new", ids[2], None),
        ]
        # a server that dies now serves the same at its next start
        wanted = StateFile(state).read()
        assert wanted["shop"].current.adapter_id == ids[1] and wanted["new"].current.adapter_id == ids[2]
        assert wanted["shop"].previous.adapter_id == ids[0]
        assert move(client, "bad", "absent") == 404
    wait_until(lambda: is_back(client))
    assert answers_with(client, "shop") == ids[1] and answers_with(client, "new") == ids[2]
    assert not client.get("/v1/adapters").json()["waiting"]
    client.post("/v1/adapters/rollback", json={"alias": "shop"})
    assert answers_with(client, "shop") == ids[0]


def test_a_move_that_waits_is_given_up_by_a_rollback_or_an_unload(client, card, ids):
    move(client, "shop", "shop-1")
    with job(card):
        assert move(client, "shop", "shop-2") == move(client, "new", "shop-3") == 202
        assert client.post("/v1/adapters/rollback", json={"alias": "shop"}).json()["adapter"]["adapter_id"] == ids[0]
        assert client.post("/v1/unload_lora_adapter", json={"lora_name": "new"}).status_code == 200
        assert not client.get("/v1/adapters").json()["waiting"]
    wait_until(lambda: is_back(client))
    assert answers_with(client, "shop") == ids[0] and not answers_with(client, "new")


def test_a_move_that_waits_and_is_refused_leaves_the_name_where_it_is(client, card, root, ids):
    move(client, "shop", "shop-1")
    with job(card):
        assert move(client, "shop", "shop-2") == 202
        shutil.rmtree(root / "shop-2")
    wait_until(lambda: is_back(client))
    assert answers_with(client, "shop") == ids[0] and not client.get("/v1/adapters").json()["waiting"]


def test_a_name_that_is_unloaded_while_it_comes_back_leaves_nothing(client, card, ids, engines, make_engine):
    move(client, "shop", "shop-1")
    with job(card):
        slow = make_engine()
        slow.slow_attach = True
        engines.spare = slow
    wait_until(lambda: slow in engines.made)
    unloading = threading.Thread(
        target=client.post, args=("/v1/unload_lora_adapter",), kwargs={"json": {"lora_name": "shop"}}
    )
    unloading.start()
    unloading.join(0.2)
    slow.slow_attach = False
    unloading.join(10)
    wait_until(lambda: is_back(client))
    assert not slow.slots and not client.get("/v1/adapters").json()["versions"]


def test_names_go_back_and_off_while_the_card_is_away(client, card, root, make_adapter, engines):
    make_adapter(root / "shop-2", content=1)
    for adapter in ("shop-1", "shop-2"):
        client.post("/v1/adapters/alias", json={"alias": "shop", "adapter": adapter})
    client.post("/v1/adapters/alias", json={"alias": "team", "adapter": "shop-2"})
    first = client.get("/v1/adapters/shop/history").json()["data"][0]["adapter_id"]
    with job(card):
        assert client.post("/v1/adapters/rollback", json={"alias": "shop"}).status_code == 200
        assert client.post("/v1/unload_lora_adapter", json={"lora_name": "team"}).status_code == 200
    wait_until(lambda: is_back(client))
    assert client.post("/v1/completions", json=ASK).json()["system_fingerprint"] == first
    assert sorted(engines.made[1].slots) == ["slot000000", "slot000001"]
    assert client.post("/v1/completions", json={**ASK, "model": "team"}).status_code == 404
