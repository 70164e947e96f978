"""An adapter exists for keys in all of its groups, on every route; for others it answers as what is not there."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from finetune.contracts.errors import AdapterError, PlatformError
from serving.access.access import Access
from serving.access.keyring import Keyring
from serving.access.keys import KeyFile
from serving.access.names import NameRule, NameRules
from serving.access.scopes import OPERATOR, Caller, Scope
from serving.adapters.desired import StateFile
from serving.adapters.registry import AdapterRegistry
from serving.api import auth
from serving.api.auth import OPEN, SCOPES
from serving.app import create_app
from tests.unit.serving.api.test_auth import declared_routes

# plans needs both, shop one; what the others are for, their names say
ADAPTERS = {
    "plans-1": ("board", "internal"),
    "plans-2": ("board", "internal"),
    "shop-2": ("internal",),
    "open-1": ("public",),
    "unstated-1": (),
}
LACKING = {"none": ("other", "Board", "boards"), "one": ("internal",), "the other": ("board",)}
ABSENT = "plums"
# the rest is for internal alone
RULES = NameRules(
    names=(
        *(NameRule(name=name, groups=("board", "internal")) for name in ("pl*", "shop", "later")),
        NameRule(name="old*", groups=()),
        NameRule(name="open*", groups=("public",)),
    )
)
QUESTION = [{"role": "user", "content": "q"}]
VOTE = {
    "mode": "chat",
    "candidates": [{"name": name, "version": f"{name}-1"} for name in ("plans", "base")],
    "choice": 0,
}
# How each route is asked for plans; a route that names no adapter must not tell of it
NAMED = {
    ("GET", "/v1/models/{name}"): [("/v1/models/plans", None)],
    ("GET", "/v1/adapters/{name}/history"): [("/v1/adapters/plans/history", None)],
    ("GET", "/v1/adapters/{name}/files"): [("/v1/adapters/plans/files", None)],
    ("GET", "/v1/adapters/{name}/files/{file}"): [("/v1/adapters/plans/files/manifest.json", None)],
    ("POST", "/v1/chat/completions"): [
        ("/v1/chat/completions", {"model": "plans", "messages": QUESTION}),
        ("/v1/chat/completions", {"model": "plans", "messages": QUESTION, "stream": True}),
    ],
    ("POST", "/v1/completions"): [("/v1/completions", {"model": "plans", "prompt": "q"})],
    ("POST", "/infill"): [("/infill", {"model": "plans", "input_prefix": "q"})],
    ("POST", "/v1/votes"): [("/v1/votes", VOTE)],
    ("POST", "/v1/load_lora_adapter"): [
        ("/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": "plans-1"}),
        ("/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": "shop-1/../plans-1"}),
        ("/v1/load_lora_adapter", {"lora_name": "plans", "lora_path": "plans-2"}),
    ],
    ("POST", "/v1/adapters/alias"): [
        ("/v1/adapters/alias", {"alias": "mine", "adapter": "plans-1"}),
        ("/v1/adapters/alias", {"alias": "shop", "adapter": "plans-2"}),
    ],
    ("POST", "/v1/adapters/split"): [
        ("/v1/adapters/split", {"alias": "plans", "to": "shop-1", "weight": 0.5}),
        ("/v1/adapters/split", {"alias": "shop", "to": "plans-1", "shadow": True}),
        ("/v1/adapters/split", {"alias": "plans"}),
    ],
    ("POST", "/v1/adapters/rollback"): [("/v1/adapters/rollback", {"alias": "plans"})],
    ("POST", "/v1/unload_lora_adapter"): [("/v1/unload_lora_adapter", {"lora_name": "plans"})],
}
# and where a load says under which name
LOADS = {"/v1/load_lora_adapter": "lora_name", "/v1/adapters/alias": "alias"}
UNNAMED = {("GET", "/readyz"), ("GET", "/v1/models"), ("GET", "/v1/adapters"), ("GET", "/metrics")}
Send = Callable[..., object]


@pytest.fixture
def settings(settings, tmp_path: Path):
    return settings.model_copy(update={"max_adapters": 8, "traffic_log": tmp_path / "traffic.jsonl"})


@pytest.fixture
def registry(engine, store, settings) -> AdapterRegistry:
    return AdapterRegistry(engine, store, max_adapters=settings.max_adapters, rules=RULES)


@pytest.fixture
def site(root, make_adapter) -> Path:
    for number, (name, visibility) in enumerate(ADAPTERS.items(), start=1):
        make_adapter(root / name, content=number, adapter_id=name, visibility=visibility)
    return root


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile.within(tmp_path / "served")


@pytest.fixture
def app(engine, store, settings, registry, file) -> FastAPI:
    keyring = Keyring(file.path)
    access = Access(keyring)
    return create_app(engine, store, settings=settings, registry=registry, access=access, keep_vote=lambda vote: None)


@pytest.fixture
def as_groups(app, file) -> Iterator[Callable[..., Send]]:
    """Sends with a key of these groups, which may do everything but what an admin may alone; of none: an admin's."""
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:

        def make(*groups: str, adapters: tuple[str, ...] = ("*",)):
            scopes = [Scope.INFER, Scope.LOAD, Scope.PROMOTE] if groups else [Scope.ADMIN]
            _, key = file.create(f"k{len(file.read())}", scopes=scopes, adapters=adapters, groups=groups)
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            return lambda method, path, body=None: client.request(
                method, path, headers=headers, content=None if body is None else json.dumps(body)
            )

        yield make


@pytest.fixture
def admin(as_groups, site):
    """The admin of a server of shop and plans."""
    send = as_groups()
    for name in ("shop", "plans"):
        assert move(send, name, f"{name}-1").status_code == 200
    return send


def move(send: Send, name: str, adapter: str):
    return send("POST", "/v1/adapters/alias", {"alias": name, "adapter": adapter})


def ask(send: Send, name: str):
    return send("POST", "/v1/completions", {"model": name, "prompt": "q", "max_tokens": 4})


def listed(send: Send) -> dict:
    return send("GET", "/v1/adapters").json()


def headers_of(answer) -> dict[str, str]:
    """All but what is another for each request."""
    return {name: value for name, value in answer.headers.items() if name != "x-request-id"}


def names_of(send: Send) -> list[str]:
    return [card["id"] for card in send("GET", "/v1/models").json()["data"]]


def test_every_route_is_walked_here(app):
    assert declared_routes(app) - OPEN == {*NAMED, *UNNAMED} == set(SCOPES), "say here how a new route names an adapter"


@pytest.mark.parametrize("who", LACKING)
@pytest.mark.parametrize("route", NAMED, ids=" ".join)
def test_without_all_groups_it_answers_as_what_is_not_there(as_groups, admin, engine, route, who):
    send, slots = as_groups(*LACKING[who]), list(engine.slots)
    for path, body in NAMED[route]:
        hidden = send(route[0], path, body)
        absent = json.loads(json.dumps(body).replace("plans", ABSENT))
        missing = send(route[0], path.replace("plans", ABSENT), absent)
        # a name that is for others is refused before anything is looked for
        is_theirs = route[1] in LOADS and not set(RULES.groups_of(body[LOADS[route[1]]])) <= set(LACKING[who])
        assert hidden.status_code == missing.status_code == (403 if is_theirs else 404)
        assert hidden.content == missing.content.replace(ABSENT.encode(), b"plans")
        assert headers_of(hidden) == headers_of(missing)
    assert engine.requests == [] and engine.slots == slots and names_of(admin) == ["base", "shop", "plans"]


@pytest.mark.parametrize("route", NAMED, ids=" ".join)
@pytest.mark.parametrize("groups", [("board", "internal"), ("internal", "more", "board"), ()])
def test_with_all_groups_or_as_admin_it_is_there(as_groups, admin, route, groups):
    send = as_groups(*groups)
    for path, body in NAMED[route]:
        assert send(route[0], path, body).status_code != 404


@pytest.mark.parametrize("who", LACKING)
def test_no_list_tells_of_it(as_groups, admin, who):
    send = as_groups(*LACKING[who])
    admin("POST", "/v1/adapters/split", {"alias": "shop", "to": "plans-2", "shadow": True})
    for method, path in UNNAMED:
        answer = send(method, path)
        assert "plans" not in answer.text and "unstated" not in answer.text, path
    seen = ["shop-1", "shop-2"] if "internal" in LACKING[who] else []
    assert listed(send)["available"] == sorted(["open-1", *seen])
    assert listed(admin)["available"] == sorted([*ADAPTERS, "shop-1"])


def test_what_states_no_group_is_for_admins_and_public_for_all(as_groups, admin):
    every, outsider = as_groups("board", "internal", "public"), as_groups("other")
    assert move(every, "x", "unstated-1").status_code == move(outsider, "open", "unstated-1").status_code == 404
    assert move(admin, "old", "unstated-1").status_code == 200 and names_of(every) == ["base", "shop", "plans"]
    assert move(outsider, "open", "open-1").status_code == 200 and ask(outsider, "open").status_code == 200


def test_patterns_and_groups_must_both_fit(as_groups, admin):
    assert names_of(as_groups("internal", adapters=("plan*",))) == ["base"]
    assert names_of(as_groups("internal", "board", adapters=("shop",))) == ["base", "shop"]
    assert names_of(as_groups("internal", "board", adapters=("pl*",))) == ["base", "plans"]


def test_a_name_that_moves_to_more_groups_is_gone_at_once_and_comes_back(as_groups, admin):
    one, both = as_groups("internal"), as_groups("internal", "board")
    before = ask(one, "shop").json()["system_fingerprint"]
    assert move(admin, "shop", "plans-2").status_code == 200
    lost = ask(one, "shop")
    assert lost.status_code == 404 and lost.text == ask(one, "none").text.replace("none", "shop")
    assert names_of(one) == ["base"] and ask(both, "shop").json()["system_fingerprint"] == "plans-2"
    # what it was before is no way round
    assert one("POST", "/v1/adapters/rollback", {"alias": "shop"}).status_code == 404
    assert admin("POST", "/v1/adapters/rollback", {"alias": "shop"}).status_code == 200
    assert ask(one, "shop").json()["system_fingerprint"] == before
    (card,) = listed(one)["data"]
    assert card["previous"] is None
    again = one("POST", "/v1/adapters/rollback", {"alias": "shop"})
    assert again.status_code == 409 and again.json()["error"]["message"].startswith("'shop' has stood for nothing else")
    history = one("GET", "/v1/adapters/shop/history").json()["data"]
    assert [entry["adapter_id"] for entry in history] == [before, before]
    assert len(both("GET", "/v1/adapters/shop/history").json()["data"]) == 3
    assert both("POST", "/v1/adapters/rollback", {"alias": "shop"}).status_code == 200


def test_an_answer_that_runs_keeps_what_its_name_was(registry, site):
    async def run() -> None:
        one = Caller("one", frozenset({Scope.INFER}), ("*",), groups=frozenset({"internal"}))
        await registry.load("shop", "shop-2")
        lease = registry.lease("shop", one)
        await registry.load("shop", "plans-1", move=True)
        assert lease.name == "shop-2" and registry.lease("shop", OPERATOR).name == "plans-1"
        with pytest.raises(PlatformError, match="not served here"):
            registry.lease("shop", one)
        lease.release()

    asyncio.run(run())


def test_groups_are_asked_of_what_was_checked_and_not_of_what_was_found(registry, site):
    """Whoever replaces a folder between the two gains nothing."""
    one = Caller("one", frozenset({Scope.LOAD}), ("*",), groups=frozenset({"internal"}))
    for away in (False, True):
        if away:
            asyncio.run(registry.leave())
        with pytest.raises(PlatformError, match="There is no adapter 'plans-1'"):
            asyncio.run(registry.load_folder("mine", site / "plans-1", caller=one))
    assert registry.served == registry.waiting == ()


def test_who_may_not_see_what_is_tried_is_no_part_of_the_trial(as_groups, admin, engine, settings):
    one, both = as_groups("internal"), as_groups("internal", "board")
    split = {"alias": "shop", "to": "plans-2", "weight": 0.99}
    assert admin("POST", "/v1/adapters/split", split).status_code == 200
    assert {ask(one, "shop").json()["system_fingerprint"] for _ in range(40)} == {listed(one)["data"][0]["adapter_id"]}
    assert not settings.traffic_log.exists()
    assert "plans-2" in {ask(both, "shop").json()["system_fingerprint"] for _ in range(40)}
    for send, tried, share in ((one, None, None), (both, "plans-2", 0.99)):
        card = listed(send)["data"][0]
        assert (card["tried"], card["share"]) == (tried, share)
    ended = one("POST", "/v1/adapters/split", {"alias": "shop"})
    assert ended.status_code == 409 and listed(both)["data"][0]["tried"] == "plans-2"
    admin("POST", "/v1/adapters/split", {"alias": "shop", "to": "plans-2", "shadow": True})
    before = len(engine.requests)
    assert ask(one, "shop").status_code == 200 and len(engine.requests) == before + 1


@pytest.mark.parametrize("who", LACKING)
@pytest.mark.parametrize("adapter", ["shop-2", "open-1", "plans-2", "none"])
def test_who_may_load_learns_of_no_name_that_it_is_taken_by_what_is_hidden(as_groups, admin, who, adapter):
    send = as_groups(*LACKING[who])
    for (path, name_field), adapter_field in zip(LOADS.items(), ("lora_path", "adapter"), strict=True):
        taken, free = (send("POST", path, {name_field: name, adapter_field: adapter}) for name in ("plans", ABSENT))
        assert taken.status_code == free.status_code == 403
        assert taken.content == free.content.replace(ABSENT.encode(), b"plans")
        assert headers_of(taken) == headers_of(free)
    assert ask(admin, "plans").json()["system_fingerprint"] == "plans-1"


@pytest.mark.parametrize("adapter", ["plans-1", "unstated-1"])
def test_not_even_an_admin_puts_under_a_name_what_some_may_not_see_who_may_take_it(as_groups, admin, engine, adapter):
    for name in ("mine", "open"):
        refused = move(admin, name, adapter)
        assert refused.status_code == 409 and "served/names.yaml" in refused.json()["error"]["message"]
    assert move(admin, "mine", "shop-2").status_code == 200
    slots = list(engine.slots)
    for path, body in (
        ("/v1/adapters/alias", {"alias": "mine", "adapter": adapter}),
        ("/v1/adapters/split", {"alias": "mine", "to": adapter, "shadow": True}),
    ):
        assert admin("POST", path, body).status_code == 409
    assert listed(admin)["data"][-1]["tried"] is None and engine.slots == slots
    assert move(as_groups("internal"), "mine", "shop-1").status_code == 200


def test_what_waits_for_the_card_is_hidden_too(as_groups, admin, registry):
    one = as_groups("internal")
    asyncio.run(registry.leave())
    assert move(admin, "shop", "plans-2").status_code == move(admin, "later", "plans-2").status_code == 202
    assert move(admin, "soon", "shop-2").status_code == 202
    assert [card["name"] for card in listed(one)["waiting"]] == ["soon"]
    assert one("POST", "/v1/adapters/rollback", {"alias": "shop"}).status_code == 409
    assert one("POST", "/v1/unload_lora_adapter", {"lora_name": "later"}).status_code == 404
    assert move(one, "later", "shop-2").status_code == 403
    assert {card["name"] for card in listed(admin)["waiting"]} == {"shop", "later", "soon"}


def test_a_restart_knows_the_groups_of_what_was_before_and_of_what_it_cannot_serve(engine, store, site, tmp_path):
    one = Caller("one", frozenset({Scope.LOAD}), ("*",), groups=frozenset({"internal"}))

    def registry_at_start() -> AdapterRegistry:
        return AdapterRegistry(engine, store, max_adapters=8, state=StateFile(tmp_path / "state.json"))

    async def serve() -> None:
        registry = registry_at_start()
        for name, adapter in (("shop", "plans-1"), ("shop", "shop-2"), ("plans", "plans-2")):
            await registry.load(name, adapter, move=True)

    async def serve_again() -> None:
        registry = registry_at_start()
        await registry.restore()
        assert [move.adapter_id for move in registry.history("shop")] == ["plans-1", "shop-2"]
        assert [move.adapter_id for move in registry.history("shop", one)] == ["shop-2"]

    async def fail_to_serve() -> None:
        registry = registry_at_start()
        engine.attach_error = AdapterError("The device refuses.", "")
        assert len(await registry.restore()) == 2
        engine.attach_error = None
        with pytest.raises(PlatformError, match="No adapter is served"):
            await registry.unload("plans", one)
        with pytest.raises(PlatformError, match="is in use"):
            await registry.load("plans", "shop-2", move=True, caller=one)
        assert (await registry.load("shop", "shop-2", caller=one)).name == "shop"
        await registry.unload("plans")

    for part in (serve, serve_again, fail_to_serve):
        asyncio.run(part())


def test_routes_reach_adapters_through_a_view_alone():
    folder = Path(auth.__file__).parent
    reached = {
        path.name
        for path in folder.glob("*.py")
        if re.search(r"\b(service|self)\.registry\b(?!, caller\)|\.base_name)", path.read_text())
    }
    # its route is for admins alone
    assert reached == {"metrics.py"}
