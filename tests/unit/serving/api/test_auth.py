"""Every route needs a key with its scope, and what a key does not see does not exist for it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from serving.access.access import Access
from serving.access.keyring import Keyring
from serving.access.keys import KeyFile
from serving.access.scopes import Limits, Scope
from serving.api.auth import OPEN, SCOPES
from serving.api.playground import PUBLIC_PATHS
from serving.app import create_app

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
UNKNOWN = ("/", "/openapi.json", "/docs", "/metrics", "/livez/", "//livez", "/livez/x", "/v1", "/v1/adapters/", "/%2e")


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"max_adapters": 4})


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile.within(tmp_path / "served")


@pytest.fixture
def app(engine, store, settings, registry, file) -> FastAPI:
    access = Access(Keyring(file.path))
    return create_app(engine, store, settings=settings, registry=registry, access=access, keep_vote=lambda vote: None)


@pytest.fixture
def guarded(app, file) -> Iterator[TestClient]:
    """A client without a key of a server whose home has one."""
    file.create("first", scopes=[Scope.ADMIN], adapters=[])
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as one:
        yield one


@pytest.fixture
def as_key(guarded, file):
    """Sends with a key of these scopes and patterns."""
    number = 0

    def make(*scopes: Scope, adapters: tuple[str, ...] = ("*",)):
        nonlocal number
        number += 1
        _, key = file.create(f"k{number}", scopes=scopes, adapters=adapters)

        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

        def send(method: str, path: str, **more: object):
            return guarded.request(method, path, headers=headers, **more)

        return send

    return make


def declared_routes(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of all that the application answers to."""
    return {
        (method, str(getattr(one, "path", one)))
        for one in iter_route_contexts(app.routes)
        for method in getattr(one, "methods", None) or {"all"}
    }


def filled(path: str) -> str:
    return re.sub(r"\{.*?\}", "shop", path)


def test_every_route_declares_its_scope_and_every_scope_is_a_route_s(app):
    assert declared_routes(app) == OPEN | set(SCOPES), "add the route to SCOPES in serving/api/auth.py"
    assert {("GET", "/livez"), *(("GET", path) for path in PUBLIC_PATHS)} == OPEN


def test_without_a_key_there_is_livez_and_the_files_of_the_playground_and_nothing_else(guarded, app, engine):
    paths = {filled(path) for _, path in declared_routes(app)} | set(UNKNOWN)
    let_in = []
    for path in sorted(paths):
        for method in METHODS:
            for headers in ({}, {"Authorization": "Bearer none"}):
                answer = guarded.request(method, path, headers=headers)
                if answer.status_code != 401:
                    let_in.append((method, path, answer.status_code))
                elif method != "HEAD":
                    assert answer.json()["error"]["code"] == "invalid_api_key"
                    assert answer.headers["www-authenticate"] == "Bearer"
    assert set(let_in) == {("GET", path, 200) for _, path in OPEN} and engine.requests == []


def test_a_route_without_a_scope_is_reached_by_nobody(app, guarded, as_key, client):
    reached = []
    app.add_api_route("/secret", lambda: reached.append(1), methods=["GET"])
    app.mount("/files", lambda *args: reached.append(1))
    assert ("GET", "/secret") in declared_routes(app) - OPEN - set(SCOPES)
    assert declared_routes(app) >= {("all", "/files")}
    admin = as_key(Scope.ADMIN, adapters=())
    for path in ("/secret", "/files/x"):
        assert guarded.get(path).status_code == 401 and admin("GET", path).status_code == 404
    # nor where there are no keys
    client.app.add_api_route("/secret", lambda: reached.append(1), methods=["GET"])
    assert client.get("/secret").status_code == 404 and reached == []


def test_each_route_asks_for_its_scopes_and_no_other(as_key):
    by_scope = {scope: as_key(scope, adapters=() if scope is Scope.ADMIN else ("*",)) for scope in Scope}
    for (method, path), scopes in SCOPES.items():
        for scope, send in by_scope.items():
            answer = send(method, filled(path), json={} if method == "POST" else None)
            is_let_in = scope in scopes or scope is Scope.ADMIN
            assert (answer.status_code == 403) != is_let_in, (method, path, scope, answer.text)
            if not is_let_in:
                error = answer.json()["error"]
                assert error["code"] == "insufficient_scope" and error["type"] == "permission_error"
                assert "needs a key with the scope" in error["message"]
                assert all(one in error["message"] for one in scopes)


def test_a_path_that_answers_to_another_method_says_so(as_key):
    answer = as_key(Scope.INFER)("DELETE", "/v1/models")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET"


def test_a_foreign_host_is_refused_with_a_key_too(guarded, as_key):
    assert guarded.get("/livez", headers={"host": "evil.example"}).status_code == 403
    assert guarded.get("/v1/models", headers={"host": "evil.example"}).json()["error"]["code"] == "host_not_allowed"
    preflight = guarded.options("/v1/models", headers={"origin": "http://evil.example"})
    assert preflight.status_code == 401
    assert not [name for name in preflight.headers if name.startswith("access-control")]


def load(send, name="shop", path="shop-1"):
    return send("POST", "/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path})


def alias(send, name="shop", path="shop-1"):
    return send("POST", "/v1/adapters/alias", json={"alias": name, "adapter": path})


def test_load_adds_and_promote_changes(as_key, root, make_adapter):
    make_adapter(root / "shop-2", content=2)
    loader, promoter = as_key(Scope.LOAD), as_key(Scope.PROMOTE)
    assert alias(promoter).status_code == 403
    assert alias(loader).status_code == 200 and load(loader, "beta", "shop-1").status_code == 200
    for path in ("shop-1", "shop-2"):
        answer = alias(loader, path=path)
        assert answer.status_code == 403 and "promote" in answer.json()["error"]["message"]
    assert alias(promoter, path="shop-2").status_code == 200
    back = ("POST", "/v1/adapters/rollback")
    away = ("POST", "/v1/unload_lora_adapter")
    assert loader(*back, json={"alias": "shop"}).status_code == 403
    assert loader(*away, json={"lora_name": "shop"}).status_code == 403
    assert promoter(*back, json={"alias": "shop"}).status_code == 200
    assert promoter(*away, json={"lora_name": "shop"}).status_code == 200


@pytest.fixture
def two_teams(as_key, root, make_adapter):
    """shop and bank are served, bank has moved; the keys of one that sees shop and of one that sees bank."""
    for number, name in enumerate(("bank-1", "bank-2"), start=1):
        make_adapter(root / name, content=number, adapter_id=name)
    admin = as_key(Scope.ADMIN, adapters=())
    assert alias(admin, "shop", "shop-1").status_code == alias(admin, "bank", "bank-1").status_code == 200
    every = (Scope.INFER, Scope.LOAD, Scope.PROMOTE)
    return as_key(*every, adapters=("shop*",)), as_key(*every, adapters=("bank*",))


def test_each_key_lists_its_own(two_teams):
    for send, own, other in zip(two_teams, ("shop", "bank"), ("bank", "shop"), strict=True):
        assert [card["id"] for card in send("GET", "/v1/models").json()["data"]] == ["base", own]
        listed = send("GET", "/v1/adapters").json()
        assert [card["name"] for card in listed["data"]] == [own] and len(listed["versions"]) == 1
        assert listed["versions"][0]["adapter_id"] == listed["data"][0]["adapter_id"]
        assert {one.partition("-")[0] for one in listed["available"]} == {own}
        assert other not in str(listed["available"]) and send("GET", f"/v1/adapters/{own}/history").status_code == 200


REQUESTS = {
    "chat": ("POST", "/v1/chat/completions", {"model": "NAME", "messages": [{"role": "user", "content": "q"}]}),
    "stream": (
        "POST",
        "/v1/chat/completions",
        {"model": "NAME", "stream": True, "messages": [{"role": "user", "content": "q"}]},
    ),
    "completion": ("POST", "/v1/completions", {"model": "NAME", "prompt": "q"}),
    "infill": ("POST", "/infill", {"model": "NAME", "input_prefix": "q"}),
    "model": ("GET", "/v1/models/NAME", None),
    "history": ("GET", "/v1/adapters/NAME/history", None),
    "rollback": ("POST", "/v1/adapters/rollback", {"alias": "NAME"}),
    "unload": ("POST", "/v1/unload_lora_adapter", {"lora_name": "NAME"}),
    "load as a hidden name": ("POST", "/v1/load_lora_adapter", {"lora_name": "NAME", "lora_path": "shop-1"}),
    "move a hidden name": ("POST", "/v1/adapters/alias", {"alias": "NAME", "adapter": "shop-1"}),
    "load a hidden adapter": ("POST", "/v1/load_lora_adapter", {"lora_name": "shop-x", "lora_path": "NAME-1"}),
    "move to a hidden adapter": ("POST", "/v1/adapters/alias", {"alias": "shop", "adapter": "NAME-2"}),
    "load a hidden folder": ("POST", "/v1/load_lora_adapter", {"lora_name": "shop-y", "lora_path": "shop-1/../NAME-1"}),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_what_a_key_does_not_see_is_as_if_it_were_not_there(two_teams, engine, what):
    method, path, body = REQUESTS[what]

    def send(name: str):
        content = None if body is None else json.dumps(body).replace("NAME", name)
        return two_teams[0](method, path.replace("NAME", name), content=content)

    hidden, absent = send("bank"), send("none")
    assert hidden.status_code == absent.status_code >= 400
    assert hidden.text == absent.text.replace("none", "bank")
    assert hidden.headers.pop("x-request-id") != absent.headers.pop("x-request-id")
    assert dict(hidden.headers) == dict(absent.headers)
    assert engine.requests == [] and len(engine.slots) == 2


def test_one_s_own_can_be_asked_moved_and_taken_away(two_teams):
    shop, bank = two_teams
    question = {"model": "bank", "messages": [{"role": "user", "content": "q"}]}
    assert bank("POST", "/v1/chat/completions", json=question).status_code == 200
    assert shop("POST", "/v1/chat/completions", json={**question, "model": "base"}).status_code == 200
    assert alias(bank, "bank", "bank-2").status_code == 200
    assert bank("POST", "/v1/adapters/rollback", json={"alias": "bank"}).status_code == 200
    assert bank("POST", "/v1/unload_lora_adapter", json={"lora_name": "bank"}).status_code == 200


def test_no_answer_tells_a_path_of_the_server(two_teams, root):
    for send in two_teams:
        for route in ("/v1/models", "/v1/adapters", "/v1/adapters/shop/history"):
            assert str(root) not in send("GET", route).text
        assert str(root) not in load(send, "shop-z", "../adapters/bank-1").text


def test_a_revoked_key_is_refused_and_readiness_needs_one(guarded, file, as_key):
    assert guarded.get("/readyz").status_code == 401
    send = as_key(Scope.PROMOTE, adapters=())
    assert send("GET", "/readyz").status_code == 200
    file.revoke("k1")
    assert send("GET", "/readyz").status_code == 401


def test_without_keys_everything_is_as_before(client, engine):
    question = {"model": "base", "messages": [{"role": "user", "content": "q"}]}
    assert client.post("/v1/chat/completions", json=question).status_code == 200
    assert client.get("/v1/models", headers={"Authorization": "Bearer none"}).status_code == 200
    assert client.get("/nowhere").json()["error"]["type"] == "not_found_error"


def test_a_key_that_asks_too_often_is_told_when_to_come_back(guarded, file):
    _, key = file.create("often", scopes=[Scope.PROMOTE], adapters=[], limits=Limits(requests_per_minute=2))
    headers = {"Authorization": f"Bearer {key}"}
    # what its scope does not let in is not counted
    assert [guarded.post("/infill", headers=headers, json={}).status_code for _ in range(3)] == [403] * 3
    answers = [guarded.get("/readyz", headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert guarded.get("/livez").status_code == 200


def test_a_vote_for_a_hidden_name_tells_nothing(two_teams):
    def vote(name: str):
        candidates = [{"name": one, "version": f"{one}-0123456789ab"} for one in (name, "base")]
        body = {"mode": "chat", "candidates": candidates, "choice": 0}
        return two_teams[0]("POST", "/v1/votes", json=body)

    hidden = vote("bank")
    assert hidden.json()["error"]["code"] == "adapter_not_found", hidden.text
    assert hidden.text == vote("none").text.replace("none", "bank")
