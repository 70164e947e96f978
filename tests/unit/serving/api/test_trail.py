"""What the log says of requests, that it says it of all of them, and what a key's limits do to its answers."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.access.access import Access
from serving.access.audit_files import AUDIT_NAME, AuditEvent, entries_of, event_of, series_in
from serving.access.keys import KeyFile
from serving.access.scopes import Limits, Scope
from serving.access.usage import read_usage
from serving.app import create_app

QUESTION = {"model": "base", "messages": [{"role": "user", "content": "q"}]}
EVERY = (Scope.INFER, Scope.LOAD, Scope.PROMOTE)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    return tmp_path / "home" / "served"


@pytest.fixture
def start(engine, store, settings, served):
    """Runs a server of the home, with other settings, until it is closed or the test is over."""
    servers: list[Iterator[TestClient]] = []

    def run(**changes: object) -> Iterator[TestClient]:
        changed = settings.model_copy(update=changes)
        with Access.within(served, port=8000, audit_required=changed.audit_required) as access:
            app = create_app(engine, store, settings=changed, access=access)
            with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as one:
                yield one

    def make(**changes: object) -> Iterator[TestClient]:
        servers.append(run(**changes))
        return servers[-1]

    yield make
    for one in servers:
        one.close()


@pytest.fixture
def file(served) -> KeyFile:
    file = KeyFile.within(served)
    file.create("first", scopes=[Scope.ADMIN], adapters=[])
    return file


@pytest.fixture
def ada(file) -> dict[str, str]:
    """The headers of a key that may do most."""
    return headers(file, "ada", scopes=EVERY, adapters=("shop*",))


def headers(file: KeyFile, name: str, **options: object) -> dict[str, str]:
    _, key = file.create(name, **options)
    return {"Authorization": f"Bearer {key}"}


def logged(served: Path) -> list[tuple[str, AuditEvent]]:
    return [(entry.kind, event_of(entry)) for entry in entries_of(series_in(served / AUDIT_NAME)["8000"])]


def test_who_asked_what_and_which_version_answered(start, served, ada, engine):
    server = start()
    client = next(server)
    move = client.post("/v1/adapters/alias", headers=ada, json={"alias": "shop", "adapter": "shop-1"})
    version = move.json()["adapter"]["adapter_id"]
    answer = client.post("/v1/chat/completions", headers=ada, json={**QUESTION, "model": "shop"})
    with client.stream("POST", "/v1/chat/completions", headers=ada, json={**QUESTION, "stream": True}) as stream:
        assert "[DONE]" in stream.read().decode()
    hidden = client.post("/v1/completions", headers=ada, json={"model": "bank", "prompt": "q"})
    server.close()
    found = logged(served)
    assert [kind for kind, _ in found] == ["started", "asked", *["request"] * 4, "stopped"]
    asked, moved, chat, streamed, refused = (event for _, event in found[1:-1])
    assert asked.request_id == moved.request_id == move.headers["x-request-id"] and asked.status == 0
    assert (moved.who, moved.action, moved.model, moved.adapter) == ("ada", "POST /v1/adapters/alias", "shop", "shop-1")
    assert moved.answered == chat.answered == version and moved.key_id == KeyFile.within(served).read()[-1].id
    usage = answer.json()["usage"]
    assert (chat.prompt_tokens, chat.completion_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert (chat.model, chat.outcome, chat.status) == ("shop", "whole", 200) and chat.prompts == ()
    assert streamed.answered.startswith("base-") and streamed.outcome == "whole" and streamed.completion_tokens > 1
    assert (refused.model, refused.status, refused.outcome) == ("bank", 404, "refused")
    assert hidden.headers["x-request-id"] == refused.request_id


def test_refusals_are_logged_with_the_reason_that_nobody_is_told(start, served, file, ada):
    server = start()
    client = next(server)
    wrong = {"Authorization": ada["Authorization"][:-2] + "AA"}
    file.create("old", scopes=[Scope.INFER], adapters=[])
    gone = headers(file, "gone", scopes=[Scope.INFER], adapters=())
    file.revoke("gone")
    answers = [client.get("/v1/models", headers=one) for one in ({}, wrong, gone, {"Authorization": "Bearer x"})]
    assert len({answer.text for answer in answers}) == 1
    assert client.get("/metrics", headers=ada).status_code == 403
    assert client.get("/v1/models", headers={**ada, "host": "evil.example"}).status_code == 403
    assert client.get("/nowhere" + "/x" * 500, headers=ada).status_code == 404
    assert client.get("/livez").status_code == 200
    server.close()
    events = [event for _, event in logged(served)[1:-1]]
    assert [(event.who, event.reason, event.status) for event in events] == [
        ("", "no key", 401),
        ("ada", "wrong secret", 401),
        ("gone", "revoked", 401),
        ("", "no key of this home", 401),
        ("ada", "insufficient_scope", 403),
        ("", "", 403),
        ("ada", "", 404),
    ]
    assert len(events[-1].action) == 200


def test_each_download_of_an_adapter_has_its_entry(start, served, ada):
    server = start()
    client = next(server)
    client.post("/v1/adapters/alias", headers=ada, json={"alias": "shop", "adapter": "shop-1"})
    for _ in range(70):
        assert client.get("/v1/adapters/shop/files/manifest.json", headers=ada).status_code == 200
    assert client.get("/v1/adapters/bank/files", headers=ada).status_code == 404
    server.close()
    events = [event for kind, event in logged(served) if kind == "request"][1:]
    assert len(events) == 71 and {event.answered for event in events[:-1]} == {events[0].answered} != {""}
    assert {event.action for event in events[:-1]} == {"GET /v1/adapters/{name}/files/{file}"}
    assert (events[-1].model, events[-1].status, events[-1].answered) == ("bank", 404, "")


def test_prompts_are_kept_only_where_that_is_wanted(start, served, ada):
    server = start(audit_prompts=True)
    next(server).post("/v1/completions", headers=ada, json={"model": "base", "prompt": "my secret"})
    server.close()
    assert "my secret" in logged(served)[1][1].prompts[0]


def test_while_the_log_cannot_be_written_nothing_is_changed(start, served, file, ada, monkeypatch, engine):
    real, state = os.fsync, {"full": True}

    def fsync(descriptor: int) -> None:
        if state["full"] and "audit" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    operator = headers(file, "operator", scopes=[Scope.ADMIN], adapters=())
    server = start()
    client = next(server)
    assert "finetune_audit_log_written 1.0" in client.get("/metrics", headers=operator).text
    monkeypatch.setattr(os, "fsync", fsync)
    change = {"alias": "shop", "adapter": "shop-1"}
    refused = client.post("/v1/adapters/alias", headers=ada, json=change)
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "audit_unavailable"
    assert refused.headers["retry-after"] == "30" and engine.slots == []
    assert client.post("/v1/chat/completions", headers=ada, json=QUESTION).status_code == 200
    assert "finetune_audit_log_written 0.0" in client.get("/metrics", headers=operator).text
    state["full"] = False
    assert client.post("/v1/adapters/alias", headers=ada, json=change).status_code == 200
    server.close()
    kinds = [kind for kind, _ in logged(served)]
    assert kinds == ["started", "request", "asked", *["request"] * 3, "asked", "request", "stopped"]


def test_nobody_but_a_change_waits_for_the_disk(start, served, ada, monkeypatch):
    real, may_go_on, is_stuck = os.fsync, threading.Event(), threading.Event()

    def slow(descriptor: int) -> None:
        if "audit" in os.readlink(f"/proc/self/fd/{descriptor}"):
            is_stuck.set()
            assert may_go_on.wait(20)
        real(descriptor)

    server = start()
    client = next(server)
    monkeypatch.setattr(os, "fsync", slow)
    with ThreadPoolExecutor() as pool:
        change = {"alias": "shop", "adapter": "shop-1"}
        changing = pool.submit(client.post, "/v1/adapters/alias", headers=ada, json=change)
        assert is_stuck.wait(20)
        for _ in range(5):
            assert client.post("/v1/chat/completions", headers=ada, json=QUESTION).status_code == 200
        assert not changing.done()
        may_go_on.set()
        assert changing.result().status_code == 200
    server.close()
    assert [kind for kind, _ in logged(served)].count("request") == 6


def test_a_required_log_that_cannot_be_written_ends_answers_too(start, served, ada, monkeypatch, engine):
    server = start(audit_required=True)
    client = next(server)
    assert client.post("/v1/chat/completions", headers=ada, json=QUESTION).status_code == 200

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert client.post("/v1/adapters/rollback", headers=ada, json={"alias": "shop"}).status_code == 503
    assert client.post("/v1/chat/completions", headers=ada, json=QUESTION).status_code == 503
    assert len(engine.requests) == 1 and client.get("/livez").status_code == 200
    monkeypatch.undo()
    server.close()


def test_tokens_of_a_day_are_counted_and_end_with_a_429_also_after_a_restart(start, served, file):
    one = headers(file, "few", scopes=EVERY, adapters=(), limits=Limits(tokens_per_day=40))
    server = start()
    client = next(server)
    used = 0
    while used < 40:
        answer = client.post("/v1/chat/completions", headers=one, json={**QUESTION, "max_tokens": 8})
        used += answer.json()["usage"]["total_tokens"]
        assert answer.headers["x-ratelimit-remaining-tokens"] == str(max(40 - used, 0))
    server.close()
    assert read_usage(served) == {"few": used}
    server = start()
    refused = next(server).post("/v1/chat/completions", headers=one, json=QUESTION)
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "insufficient_quota"
    assert 1 <= int(refused.headers["retry-after"]) <= 86_400
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
    server.close()


def test_what_fails_gives_back_its_booking(start, file, engine):
    one = headers(file, "few", scopes=EVERY, adapters=(), limits=Limits(tokens_per_day=100))
    server = start()
    client = next(server)
    engine.busy = True
    assert client.post("/v1/chat/completions", headers=one, json=QUESTION).status_code == 429
    engine.busy = False
    answer = client.post("/v1/chat/completions", headers=one, json={**QUESTION, "max_tokens": 64})
    assert answer.status_code == 200
    left = 100 - answer.json()["usage"]["total_tokens"]
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(left)
    server.close()


def test_only_so_many_requests_of_a_key_run_at_a_time(start, file, engine):
    one = headers(file, "few", scopes=EVERY, adapters=(), limits=Limits(100, max_concurrent=1))
    server = start()
    client = next(server)
    for _ in range(2):
        # each has ended before the next begins
        assert client.post("/v1/chat/completions", headers=one, json=QUESTION).status_code == 200
        assert client.get("/nowhere", headers=one).status_code == 404
    engine.hang = True
    with ThreadPoolExecutor() as pool:
        running = pool.submit(client.post, "/v1/chat/completions", headers=one, json=QUESTION)
        deadline = time.monotonic() + 10
        while len(engine.generations) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        engine.hang = False
        refused = client.post("/v1/chat/completions", headers=one, json=QUESTION)
        engine.generations[2].release()
        assert running.result().status_code == 200
        assert refused.status_code == 429 and refused.json()["error"]["code"] == "too_many_concurrent_requests"
        assert refused.headers["retry-after"] == "1" and refused.headers["x-ratelimit-limit-requests"] == "100"
    assert client.post("/v1/chat/completions", headers=one, json=QUESTION).status_code == 200
    server.close()
