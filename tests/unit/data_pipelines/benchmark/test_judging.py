import pytest

from data_pipelines.benchmark.judgement import Judgement
from data_pipelines.benchmark.judging import OneByOne, judge_all
from data_pipelines.benchmark.record import Record


def judge(name):
    if name == "!":
        raise RuntimeError("a bug")
    return Judgement(name=name, reason="no" if name.isupper() else "")


def judged(tmp_path, order, *, limit=None, known=(), jobs=1):
    record = Record(tmp_path / "judged.jsonl", list(order), limit=limit)
    judge_all(record, OneByOne(record, judge), title="Judging", jobs=jobs, known=known)
    return record


def test_candidates_are_judged_in_order_until_enough_are_kept(tmp_path):
    first = judged(tmp_path, "aBcdef", limit=2)
    assert (list(first.done), first.num_fresh) == (["a", "B", "c"], 3)
    more = judged(tmp_path, "aBcdef", limit=3)
    assert (more.num_before, more.num_fresh, more.kept) == (3, 1, {"a", "c", "d"})
    assert judged(tmp_path, "aBcdef", jobs=3).num_fresh == 2


def test_what_takes_no_step_is_recorded_as_well(tmp_path):
    record = Record(tmp_path / "judged.jsonl", list("ab"), limit=None)
    steps = OneByOne(record, judge)
    steps.waiting.remove("a")
    judge_all(record, steps, title="Judging", jobs=1, known=[Judgement(name="a", reason="untested")])
    assert record.done == {"a": Judgement(name="a", reason="untested"), "b": Judgement(name="b")}


def test_a_bug_in_one_step_keeps_what_was_judged_before(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"):
        judged(tmp_path, "ab!c")
    assert set(Record(tmp_path / "judged.jsonl", list("ab!c"), limit=None).done) == {"a", "b"}
