"""Names on the endpoint follow the registry: what is promoted is served, what is withdrawn is not."""

import pytest

import serving.client
from finetune.cli.follow import Followed, follow_once
from finetune.cli.main import run
from finetune.cli.votes import record_new_votes
from finetune.contracts.errors import AdapterError, RunError
from finetune.contracts.votes import Candidate, Vote, append_vote
from finetune.release.registry import registry_of
from finetune.tracking.home_store import open_client

from .conftest import MODEL, register, save_adapter

URL = "http://127.0.0.1:9"


@pytest.fixture
def endpoint(monkeypatch):
    """Names and the adapters that they stand for; refusing names what it does not take."""

    class Endpoint:
        def __init__(self) -> None:
            self.served: dict[str, str] = {}
            self.refusing: set[str] = set()
            self.calls: list[str] = []

        def call(self, url, path, *, expects, body=None):
            self.calls.append(path)
            if path == "/v1/adapters":
                return {"data": [{"name": name, "adapter_id": one} for name, one in self.served.items()]}
            if path == "/v1/unload_lora_adapter":
                del self.served[body["lora_name"]]
            elif body["adapter"] in self.refusing:
                raise AdapterError("The server refused.", "")
            else:
                self.served[body["alias"]] = body["adapter"]
            return {}

    one = Endpoint()
    monkeypatch.setattr(serving.client, "call", one.call)
    return one


@pytest.fixture
def versions(home):
    """Two registered adapters, by version."""
    return {register(home, manifest): manifest.adapter_id for manifest in (save_adapter(home, n) for n in (1.0, 2.0))}


def test_a_name_follows_its_alias_there_and_back_and_away(home, versions, endpoint):
    client = open_client(home)
    followed = [Followed("shop", registry_of(home, MODEL, server=None), "champion")]
    (first, second) = versions
    follow_once(followed, URL)
    assert endpoint.served == {} and endpoint.calls == ["/v1/adapters"]
    for version in (first, second, first):
        client.set_registered_model_alias(MODEL, "champion", version)
        follow_once(followed, URL)
        assert endpoint.served == {"shop": versions[version]}
    calls = len(endpoint.calls)
    follow_once(followed, URL)
    assert len(endpoint.calls) == calls + 1
    client.delete_registered_model_alias(MODEL, "champion")
    follow_once(followed, URL)
    assert endpoint.served == {}


def test_a_refused_adapter_keeps_no_other_name_from_moving(home, versions, endpoint):
    client = open_client(home)
    registry = registry_of(home, MODEL, server=None)
    first, second = versions
    client.set_registered_model_alias(MODEL, "champion", first)
    client.set_registered_model_alias(MODEL, "challenger", second)
    endpoint.refusing.add(versions[first])
    followed = [Followed("shop", registry, "champion"), Followed("beta", registry, "challenger")]
    with pytest.raises(AdapterError, match="refused"):
        follow_once(followed, URL)
    assert endpoint.served == {"beta": versions[second]}


def test_the_command_says_what_moved(home, versions, endpoint, capsys):
    open_client(home).set_registered_model_alias(MODEL, "champion", min(versions))
    assert run(["serve", "follow", f"shop={MODEL}", "--once", "--home", str(home.root)]) == 0
    assert f"shop is {versions[min(versions)]}, as {MODEL}@champion says." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pair", "code", "words"), [("shop", 2, "is not NAME=MODEL"), ("a=nobody", 3, "there are shop")]
)
def test_what_cannot_be_followed_is_named(home, versions, endpoint, capsys, pair, code, words):
    assert run(["serve", "follow", pair, "--once", "--home", str(home.root)]) == code
    assert words in capsys.readouterr().err


def test_a_home_without_a_model_says_so(home):
    with pytest.raises(RunError, match="there are none"):
        registry_of(home, MODEL, server=None)


def test_votes_are_recorded_on_the_way_and_only_when_there_are_new_ones(home, monkeypatch):
    candidates = (Candidate(name="shop", version="shop-1"), Candidate(name="base", version="base-1"))
    vote = Vote(mode="chat", candidates=candidates, choice=0, at_ms=1000)
    assert record_new_votes(home, None, known_bytes=0) == 0
    append_vote(home.votes, vote)
    num_bytes = record_new_votes(home, None, known_bytes=0)
    client = open_client(home)
    (found,) = client.search_runs([client.get_experiment_by_name("votes").experiment_id])
    assert found.data.metrics["votes/wins"] == 1
    monkeypatch.setattr("finetune.evaluate.vote_record.record_votes", lambda *_, **__: 1 / 0)
    assert record_new_votes(home, None, known_bytes=num_bytes) == num_bytes
