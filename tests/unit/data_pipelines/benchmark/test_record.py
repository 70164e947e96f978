from data_pipelines.benchmark.judgement import Judgement
from data_pipelines.benchmark.record import Record


def write(record, *judgements):
    with record.writing("Judging") as keep:
        for one in judgements:
            keep(one)


def test_a_run_goes_on_behind_what_was_judged_and_tries_again_what_could_not_be_tested(tmp_path):
    journal = tmp_path / "judged.jsonl"
    first = Record(journal, list("abcd"), limit=None)
    write(first, Judgement(name="b", reason="no"), Judgement(name="c", broken="no jail"), Judgement(name="gone"))
    again = Record(journal, list("abcd"), limit=None)
    assert (again.waiting(), again.num_before, again.num_fresh) == (["d", "c", "a"], 1, 0)


def test_a_line_that_a_kill_cut_short_within_a_character_costs_that_line_alone(tmp_path):
    journal = tmp_path / "judged.jsonl"
    names = ["a", "größe", "line\u2028break"]
    write(Record(journal, names, limit=None), *(Judgement(name=name) for name in names))
    whole = journal.read_bytes()
    assert set(Record(journal, names, limit=None).done) == set(names)
    journal.write_bytes(whole[: whole.index("ö".encode()) + 1])
    cut = Record(journal, names, limit=None)
    assert set(cut.done) == {"a"}
    write(cut, Judgement(name="größe"))
    assert set(Record(journal, names, limit=None).done) == {"a", "größe"}


def test_what_a_kill_left_out_is_judged_before_a_limit_counts_as_reached(tmp_path):
    def enough(kept, following, *, limit, besides=()):
        record = Record(tmp_path / "none", list("abcd"), limit=limit)
        record.kept = set(kept)
        return record.enough(following, besides=besides)

    assert not enough("ac", "b", limit=2)
    assert enough("ab", "c", limit=2)
    assert enough("a", "c", limit=2, besides="b")
    assert not enough("a", "c", limit=2, besides="ad")
    assert not enough("abc", "d", limit=None)
