"""Two versions of a name: a share or a copy of its requests goes to the second, and a file says what both did."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.adapters.registry import AdapterRegistry
from serving.app import create_app


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "served" / "traffic.jsonl"


@pytest.fixture
def ids(root, make_adapter: Callable[..., Path]) -> list[str]:
    """What shop stands for, and what is tried."""
    folders = [root / "shop-1", make_adapter(root / "shop-2", content=1)]
    return [json.loads((folder / "manifest.json").read_text())["adapter_id"] for folder in folders]


@pytest.fixture
def make_client(engine, store, settings, log) -> Iterator[Callable[..., TestClient]]:
    opened = []

    def make(**changes: object) -> TestClient:
        changed = settings.model_copy(update={"traffic_log": log, **changes})
        registry = AdapterRegistry(engine, store, max_adapters=changed.max_adapters)
        app = create_app(engine, store, settings=changed, registry=registry)
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        opened.append(client.__enter__())
        client.post("/v1/load_lora_adapter", json={"lora_name": "shop", "lora_path": "shop-1"})
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


def split(client: TestClient, **body: object):
    return client.post("/v1/adapters/split", json={"alias": "shop", **body})


def ask(client: TestClient) -> dict:
    return client.post("/v1/completions", json={"model": "shop", "prompt": "secret", "max_tokens": 4}).json()


def lines(log: Path, num_lines: int) -> list[dict]:
    deadline = time.monotonic() + 5
    while not log.exists() or len(log.read_text().splitlines()) < num_lines:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_share_of_the_requests_goes_to_what_is_tried(make_client, ids, log):
    client = make_client()
    assert split(client, to="shop-2", weight=0.5).json()["adapter"]["tried"] == ids[1]
    answered = [ask(client)["system_fingerprint"] for _ in range(60)]
    assert set(answered) == set(ids)
    found = lines(log, 60)
    assert [one["adapter_id"] for one in found] == answered
    assert {(one["adapter_id"], one["role"]) for one in found} == {(ids[0], "current"), (ids[1], "tried")}
    assert all(one["completion_tokens"] and one["outcome"] == "whole" and one["seconds"] >= 0 for one in found)
    assert "secret" not in log.read_text()


def test_a_copy_goes_to_what_is_tried_and_nobody_sees_its_answer(make_client, ids, log):
    client = make_client(traffic_prompts=True)
    assert split(client, to="shop-2", shadow=True).status_code == 200
    assert {ask(client)["system_fingerprint"] for _ in range(5)} == {ids[0]}
    found = lines(log, 10)
    pairs: dict[str, set[str]] = {}
    for one in found:
        pairs.setdefault(one["pair"], set()).add(one["role"])
        assert "secret" in one["prompts"][0]
    assert list(pairs.values()) == [{"current", "copy"}] * 5


def test_a_failed_copy_costs_nobody_anything(make_client, engine, ids, log):
    client = make_client()
    split(client, to="shop-2", shadow=True)
    engine.fail = True
    assert ask(client)["error"]["code"] == "engine_unavailable"
    assert {one["outcome"] for one in lines(log, 2)} == {"The device failed."}


def test_it_ends_when_it_is_ended_and_when_the_name_moves_there(make_client, engine, ids):
    client = make_client()
    split(client, to="shop-2", weight=0.9)
    card = split(client).json()["adapter"]
    assert card["tried"] is None and len(engine.slots) == 1
    assert split(client).status_code == 409
    split(client, to="shop-2", weight=0.9)
    client.post("/v1/adapters/alias", json={"alias": "shop", "adapter": "shop-2"})
    (card,) = client.get("/v1/adapters").json()["data"]
    assert (card["adapter_id"], card["previous"], card["tried"]) == (ids[1], ids[0], None)


def test_what_is_tried_stays_in_memory_and_goes_with_the_name(make_client, engine, root, make_adapter, ids):
    client = make_client()
    split(client, to="shop-2", weight=0.5)
    make_adapter(root / "shop-3", content=2)
    full = client.post("/v1/load_lora_adapter", json={"lora_name": "team", "lora_path": "shop-3"})
    assert full.status_code == 409 and "which is the limit" in full.text
    client.post("/v1/unload_lora_adapter", json={"lora_name": "shop"})
    assert engine.slots == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"to": "shop-2"}, 400),
        ({"to": "shop-2", "weight": 0.5, "shadow": True}, 400),
        ({"weight": 0.5}, 400),
        ({"to": "shop-2", "weight": 1.0}, 400),
        ({"to": "absent", "weight": 0.5}, 404),
        ({"to": "shop-1", "weight": 0.5}, 409),
        ({"to": "shop-2", "weight": 0.5, "alias": "team"}, 404),
    ],
)
def test_what_cannot_be_tried_is_refused(make_client, ids, body, status):
    assert split(make_client(), **body).status_code == status
