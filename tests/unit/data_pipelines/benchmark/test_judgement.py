from collections import Counter

from data_pipelines.benchmark.judgement import BrokenError, Judgement, Unfit, choose, judgement_of


def test_the_first_in_order_become_tasks_whatever_was_judged_beside_them():
    done = {name: Judgement(name=name) for name in "abcd"}
    done |= {"b": Judgement(name="b", reason="no"), "e": Judgement(name="e", broken="no jail")}
    left = Counter[tuple[str, str]]()
    assert choose(list("abcdef"), done, left=left, limit=2) == ["a", "c"]
    assert left == {
        ("screen", "no"): 1,
        ("screen", "kept by screening, beyond --limit"): 1,
        ("infrastructure", "no jail"): 1,
        ("screen", "not judged: --limit was reached"): 1,
    }
    few = {name: done[name] for name in "ac"}
    assert choose(list("abcdef"), few, left=Counter(), limit=2) == ["a", "c"]
    assert choose(list("abcdef"), done, left=Counter(), limit=None) == ["a", "c", "d"]


def test_what_is_no_task_and_what_could_not_be_tested_are_told_apart():
    def raising(error):
        def judge():
            raise error

        return judgement_of("a", judge)

    assert raising(Unfit("too long")) == Judgement(name="a", reason="too long")
    assert raising(BrokenError("no jail")) == Judgement(name="a", broken="no jail")
    assert not raising(BrokenError("no jail")).kept and Judgement(name="a").kept
