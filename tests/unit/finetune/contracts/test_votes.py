"""Votes are kept line by line: none is lost to a torn write, and none says what cannot be so."""

import fcntl
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError

from finetune.contracts import votes
from finetune.contracts.errors import MachineError, RunError
from finetune.contracts.votes import Candidate, Choice, Vote, append_vote, read_votes

GOLDEN = (
    '{"mode": "infill", "candidates": [{"name": "shop", "version": "shop-1"}, {"name": "base", "version": "base-0"}], '
    '"choice": "tie", "prompt": ["def f(", "):\\n"], "schema_version": 1, "at_ms": 1700000000000}\n'
)


def make_vote(choice=0, *versions: str, at_ms: int = 1, prompt=None) -> Vote:
    candidates = tuple(Candidate(name=f"n{one}", version=one) for one in versions or ("shop-1", "base-0"))
    return Vote(mode="chat", candidates=candidates, choice=choice, prompt=prompt, at_ms=at_ms)


def test_what_was_appended_is_read_in_order(tmp_path):
    path = tmp_path / "served" / "votes.jsonl"
    assert read_votes(path) == []
    kept = [make_vote(0), make_vote("tie"), make_vote("none", prompt=("ä\n\u2028", ""))]
    for vote in kept:
        append_vote(path, vote)
    assert read_votes(path) == kept
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_of_version_1_loads_for_ever(tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_text(GOLDEN)
    (vote,) = read_votes(path)
    assert (vote.choice, vote.prompt, vote.candidates[0].version) == ("tie", ("def f(", "):\n"), "shop-1")


def test_a_torn_line_costs_neither_the_vote_before_nor_the_one_after(tmp_path):
    path = tmp_path / "votes.jsonl"
    append_vote(path, make_vote(0))
    with path.open("ab") as stream:
        stream.write(b'{"mode": "chat", "candi')
    assert read_votes(path) == [make_vote(0)]
    append_vote(path, make_vote(1))
    assert read_votes(path) == [make_vote(0), make_vote(1)]


def test_many_at_once_lose_none(tmp_path):
    path = tmp_path / "votes.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: append_vote(path, make_vote(0, at_ms=number)), range(64)))
    assert sorted(vote.at_ms for vote in read_votes(path)) == list(range(64))


def test_a_vote_waits_while_another_is_written(tmp_path):
    path = tmp_path / "votes.jsonl"
    with path.open("ab") as stream, ThreadPoolExecutor(1) as pool:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX)
        waiting = pool.submit(append_vote, path, make_vote(0))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        fcntl.flock(stream.fileno(), fcntl.LOCK_UN)
        waiting.result(timeout=30)
    assert read_votes(path) == [make_vote(0)]


def test_a_whole_line_that_is_no_vote_is_told(tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_text(GOLDEN + GOLDEN.replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(RunError, match=r"Line 2 of .* is no vote: schema_version"):
        read_votes(path)


def test_a_full_file_takes_no_more(tmp_path, monkeypatch):
    path = tmp_path / "votes.jsonl"
    append_vote(path, make_vote(0))
    monkeypatch.setattr(votes, "MAX_FILE_BYTES", path.stat().st_size)
    with pytest.raises(MachineError, match="is the most"):
        append_vote(path, make_vote(1))
    assert read_votes(path) == [make_vote(0)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"choice": 2}, "none of the 2 candidates"),
        ({"choice": "both"}, "tie"),
        ({"choice": True}, "choice"),
        ({"candidates": [{"name": "a", "version": "v"}]}, "at least 2"),
        ({"candidates": [{"name": "a", "version": "v"}, {"name": "b", "version": "v"}]}, "the same version"),
        ({"candidates": [{"name": "a", "version": f"v{n}"} for n in range(5)]}, "at most 4"),
        ({"prompt": ["x" * 100_001]}, "at most 100000"),
        ({"user": "me"}, "Extra inputs"),
    ],
)
def test_a_choice_that_says_nothing_or_too_much_is_refused(change, words):
    document = {
        "mode": "chat",
        "candidates": [{"name": "a", "version": "v1"}, {"name": "b", "version": "v2"}],
        "choice": 1,
    }
    Choice.model_validate_json(json.dumps(document))
    with pytest.raises(ValidationError, match=words):
        Choice.model_validate_json(json.dumps({**document, **change}))
