"""A vote is kept when each candidate was what it says, and refused in words when not."""

import pytest
from fastapi.testclient import TestClient

from finetune.contracts.errors import MachineError
from finetune.contracts.io import digest_text
from serving.app import create_app

BASE = {"name": "base", "version": f"base-{digest_text('base')[:12]}"}


@pytest.fixture
def kept():
    return []


@pytest.fixture
def voting(engine, store, registry, settings, kept):
    app = create_app(engine, store, settings=settings, registry=registry, keep_vote=kept.append)
    with TestClient(app, base_url="http://127.0.0.1") as one:
        yield one


@pytest.fixture
def shop(voting):
    body = {"alias": "shop", "adapter": "shop-1"}
    return {"name": "shop", "version": voting.post("/v1/adapters/alias", json=body).json()["adapter"]["adapter_id"]}


def body(*candidates, choice=0, **more):
    return {"mode": "chat", "candidates": candidates, "choice": choice, **more}


def test_a_vote_is_kept_as_it_came(voting, kept, shop):
    answer = voting.post("/v1/votes", json=body(shop, BASE, choice="tie", prompt=["q"]))
    assert answer.status_code == 200
    (vote,) = kept
    assert (vote.choice, vote.prompt, vote.at_ms) == ("tie", ("q",), answer.json()["at_ms"])
    assert [one.model_dump() for one in vote.candidates] == [shop, BASE]


def test_a_vote_on_what_the_name_stood_for_before_counts(voting, kept, shop, root, make_adapter):
    make_adapter(root / "shop-2", content=2)
    voting.post("/v1/adapters/alias", json={"alias": "shop", "adapter": "shop-2"})
    assert voting.post("/v1/votes", json=body(BASE, shop)).status_code == 200 and len(kept) == 1


@pytest.mark.parametrize(
    ("candidate", "status"),
    [
        ({"name": "shop", "version": "shop-x"}, 409),
        ({"name": "base", "version": "b"}, 409),
        ({"name": "no", "version": "v"}, 404),
    ],
)
def test_nobody_votes_on_what_never_answered(voting, kept, shop, candidate, status):
    first = BASE if candidate["name"] != "base" else shop
    assert voting.post("/v1/votes", json=body(first, candidate)).status_code == status and not kept


def test_checking_a_vote_holds_no_adapter(voting, registry, shop):
    voting.post("/v1/votes", json=body(shop, BASE))
    assert [version.num_active for version in registry.versions] == [0]


def test_a_field_that_is_not_known_is_refused(voting, kept, shop):
    answer = voting.post("/v1/votes", json=body(shop, BASE, at_ms=1))
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "unknown_parameter" and not kept


def test_another_pages_form_cannot_vote(voting, kept, shop):
    import json

    content = json.dumps(body(shop, BASE))
    answer = voting.post("/v1/votes", content=content, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400 and not kept


def test_a_server_without_a_home_says_so(client):
    answer = client.post("/v1/votes", json=body(BASE, {"name": "shop", "version": "v"}))
    assert answer.status_code == 409 and "no home" in answer.json()["error"]["message"]


def test_a_disk_that_is_full_is_told_without_its_path(engine, store, registry, settings):
    def refuse(vote):
        raise MachineError("No space left on the disk that holds /srv/home/votes.jsonl.", "Free some space.")

    app = create_app(engine, store, settings=settings, registry=registry, keep_vote=refuse)
    with TestClient(app, base_url="http://127.0.0.1") as one:
        other = one.post("/v1/adapters/alias", json={"alias": "shop", "adapter": "shop-1"}).json()["adapter"]
        candidates = (BASE, {"name": "shop", "version": other["adapter_id"]})
        answer = one.post("/v1/votes", json=body(*candidates))
    assert answer.status_code == 503 and "/srv" not in answer.text
