"""Blind votes as tallies, and as runs of a real MLflow store: each vote once, however often it is told."""

import json

import pytest

from finetune.cli.main import run
from finetune.contracts.errors import MachineError
from finetune.contracts.run import Home
from finetune.contracts.votes import Candidate, Vote, append_vote
from finetune.evaluate.vote_record import record_votes
from finetune.evaluate.votes import Pair, count_votes
from finetune.tracking.home_store import open_client
from finetune.tracking.mlflow_store import MlflowStore

BASE, OLD, NEW = "base-0123456789ab", "shop-old", "shop-new"


@pytest.fixture(scope="module")
def store_home(tmp_path_factory) -> Home:
    """A store takes seconds to make."""
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def home(store_home) -> Home:
    """A home without votes; the store has those of the tests before, about other pairs."""
    store_home.votes.unlink(missing_ok=True)
    return store_home


def make_vote(choice, *versions: str, at_ms: int = 1_700_000_000_000) -> Vote:
    candidates = tuple(Candidate(name=one, version=one) for one in versions)
    return Vote(mode="chat", candidates=candidates, choice=choice, at_ms=at_ms)


def last(votes):
    return {pair: rows[-1] for pair, rows in count_votes(votes).items()}


def test_where_a_column_stood_does_not_matter_and_the_base_is_what_it_is_against():
    tally = last([make_vote(0, NEW, BASE), make_vote(1, BASE, NEW), make_vote(0, BASE, NEW)])
    assert list(tally) == [Pair(NEW, BASE)]
    assert (tally[Pair(NEW, BASE)].wins, tally[Pair(NEW, BASE)].losses) == (2, 1)


def test_of_three_the_chosen_one_beats_each_other_and_nothing_is_said_about_those():
    tally = last([make_vote(2, BASE, OLD, NEW)])
    assert set(tally) == {Pair(NEW, BASE), Pair(NEW, OLD)}
    assert all((one.wins, one.losses) == (1, 0) for one in tally.values())
    alike = last([make_vote("tie", BASE, OLD, NEW), make_vote("none", BASE, OLD, NEW)])
    assert set(alike) == {Pair(NEW, BASE), Pair(NEW, OLD), Pair(OLD, BASE)}
    assert all((one.ties, one.none_good, one.num_decided) == (1, 1, 0) for one in alike.values())


def test_the_share_is_of_decided_votes_and_its_interval_is_exact():
    votes = [make_vote(0, NEW, BASE)] * 9 + [make_vote(1, NEW, BASE)] + [make_vote("tie", NEW, BASE)] * 5
    figures = last(votes)[Pair(NEW, BASE)].figures()
    assert figures["votes/win_share"] == 0.9 and figures["votes/ties"] == 5
    # Clopper and Pearson for 9 of 10, and the sign test: 2 x (10 + 1) / 2^10
    assert figures["votes/win_share_low"] == pytest.approx(0.55498, abs=1e-5)
    assert figures["votes/win_share_high"] == pytest.approx(0.99747, abs=1e-5)
    assert figures["votes/p_value"] == pytest.approx(22 / 1024)
    assert "votes/win_share" not in last([make_vote("tie", NEW, BASE)])[Pair(NEW, BASE)].figures()


def history(home: Home, pair: Pair, metric: str) -> list[tuple[int, float]]:
    client = open_client(home)
    experiment = client.get_experiment_by_name("votes")
    found = client.search_runs([experiment.experiment_id], f"params.version = '{pair.version}'")
    (one,) = [row for row in found if row.data.params["against"] == pair.against]
    assert one.info.status == "FINISHED" and pair.version in one.data.tags["mlflow.note.content"]
    return [(point.step, point.value) for point in client.get_metric_history(one.info.run_id, metric)]


def test_votes_reach_mlflow_once_and_the_command_says_how_it_stands(home, capsys, monkeypatch):
    assert run(["serve", "votes", "--home", str(home.root)]) == 0
    assert "No votes" in capsys.readouterr().out
    append_vote(home.votes, make_vote(0, NEW, BASE, at_ms=1000))
    append_vote(home.votes, make_vote(0, BASE, NEW, at_ms=2000))
    assert [one.num_new for one in record_votes(home, server=None)] == [2]
    assert [one.num_new for one in record_votes(home, server=None)] == [0]
    pair = Pair(NEW, BASE)
    assert history(home, pair, "votes/wins") == [(1, 1.0), (2, 1.0)]
    append_vote(home.votes, make_vote(1, BASE, NEW, OLD, at_ms=3000))
    # killed after the points were recorded and before the store was told so
    with monkeypatch.context() as patch, pytest.raises(MachineError):
        patch.setattr(MlflowStore, "confirm", lambda *_: 1 / 0)
        record_votes(home, server=None)
    assert run(["serve", "votes", "--home", str(home.root), "--json"]) == 0
    document = {row["version"] + ">" + row["against"]: row for row in json.loads(capsys.readouterr().out)["pairs"]}
    assert document[f"{NEW}>{BASE}"]["wins"] == 2 and document[f"{NEW}>{OLD}"]["num_new"] == 1
    assert history(home, pair, "votes/wins") == [(1, 1.0), (2, 1.0), (3, 2.0)]
    assert history(home, Pair(NEW, OLD), "votes/wins") == [(1, 1.0)]
    assert run(["serve", "votes", "--home", str(home.root)]) == 0
    text = capsys.readouterr().out
    assert f"{NEW}: 2 for it, 1 for {BASE}, 0 ties" in text and "no difference shown. 0 new." in text


def test_another_file_begins_another_run(home):
    for at_ms in (1000, 2000):
        append_vote(home.votes, make_vote(0, "late", BASE, at_ms=at_ms))
    record_votes(home, server=None)
    home.votes.unlink()
    append_vote(home.votes, make_vote(1, "late", BASE, at_ms=3000))
    assert [(one.num_new, one.tally.losses) for one in record_votes(home, server=None)] == [(1, 1)]
    client = open_client(home)
    runs = client.search_runs([client.get_experiment_by_name("votes").experiment_id], "params.version = 'late'")
    found = {
        (run.data.params["since"], run.data.metrics["votes/wins"], run.data.metrics["votes/losses"]) for run in runs
    }
    assert found == {("1970-01-01T00:00:01.000+00:00", 2, 0), ("1970-01-01T00:00:03.000+00:00", 0, 1)}
