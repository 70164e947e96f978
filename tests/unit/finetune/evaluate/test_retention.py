"""The retention suite over the tiny base: what is measured, that it repeats, and what cannot be asked."""

from typing import Protocol

import pytest

from finetune.contracts.errors import MachineError
from finetune.evaluate.general.functions import Grade
from finetune.evaluate.general.instructions import instructions
from finetune.evaluate.retention import GENERAL_BITS, PASSED, RetentionSuite, general_texts
from finetune.evaluate.suite import Measured, Subject
from finetune.execution.jail import Jail
from finetune.model.loading import LoadedBase
from finetune.recipe.schema import EvaluateSection
from finetune.render.rows import Renderer


class MakeSuite(Protocol):
    """What the fixture suite is."""

    def __call__(self, *, max_tokens: int = 1024, rows: int = 5) -> RetentionSuite: ...


@pytest.fixture
def no_jail(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Jail:
        raise MachineError("There is no jail here.", "Install bubblewrap.")

    monkeypatch.setattr(Jail, "open", refuse)


@pytest.fixture
def suite(loaded: LoadedBase, no_jail: None) -> MakeSuite:
    def make(*, max_tokens: int = 1024, rows: int = 5) -> RetentionSuite:
        renderer = Renderer(loaded.tokenizer, loaded.family, max_tokens)
        return RetentionSuite(renderer, EvaluateSection(retention_rows=rows, batch_rows=4), pad_token=0)

    return make


def measured(suite: RetentionSuite, loaded: LoadedBase, task_ids: list[str]) -> dict[str, Measured]:
    found: list[Measured] = []
    suite.measure(Subject("base", loaded.model), task_ids, told=found.append)
    assert len(found) == len({each.task_id for each in found})
    return {each.task_id: each for each in found}


def test_texts_and_instructions_are_measured_and_repeat_after_a_stop(suite: MakeSuite, loaded: LoadedBase) -> None:
    whole = suite()
    ids = [task.id for task in whole.tasks]
    first = measured(whole, loaded, ids)
    assert set(first) == set(ids) and len(ids) == 10
    texts = [each for each in first.values() if GENERAL_BITS.name in each.values]
    assert len(texts) == 5
    assert [each.size for each in texts] != [1.0] * 5
    assert all(PASSED.name in first[each.id].values for each in instructions()[:5])
    rest = ids[3:4] + ids[7:8]
    assert measured(whole, loaded, rest) == {task_id: first[task_id] for task_id in rest}


def test_the_digest_is_that_of_tasks_and_settings(suite: MakeSuite) -> None:
    assert suite().digest == suite().digest
    assert suite().digest != suite(rows=4).digest


def test_an_answer_is_judged_by_its_instruction(
    suite: MakeSuite, loaded: LoadedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = loaded.tokenizer.encode("Rivers flow.\nThey end in seas.")
    monkeypatch.setattr("finetune.evaluate.retention.greedy", lambda model, prompts, **_: [spoken for _ in prompts])
    found = measured(suite(), loaded, ["lines 1", "bullets 1"])
    assert set(found) == {"lines 1", "bullets 1"}
    assert found["lines 1"].values == {PASSED.name: 1.0}
    assert found["bullets 1"].values == {PASSED.name: 0.0}
    assert found["lines 1"].answer.startswith("Rivers")


def test_what_does_not_fit_is_counted(suite: MakeSuite) -> None:
    short = suite(max_tokens=160, rows=10)
    counts = {count.reason: count.count for count in short.left_out()}
    assert counts["instruction passed over: it does not fit in max_tokens with its answer"] > 0


def test_a_base_without_a_chat_template_is_asked_for_texts_alone(
    suite: MakeSuite, loaded: LoadedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.tokenizer, "chat_template", None)
    found = suite()
    assert {task.group for task in found.tasks} == {"text"}
    assert any("no chat template" in count.reason and count.count == 5 for count in found.left_out())


def test_without_a_jail_functions_are_left_out_and_the_rest_is_measured(suite: MakeSuite) -> None:
    found = suite()
    assert {task.group for task in found.tasks} == {"text", "shape"}
    assert [count.count for count in found.left_out() if count.reason == "function: There is no jail here."] == [5]


def test_functions_are_asked_for_and_graded_where_there_is_a_jail(
    loaded: LoadedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Jail, "open", object)
    grades = {"gcd": Grade(True), "comb": Grade(False, note="it gave 1"), "isleap": Grade(False, broken="no disk")}
    monkeypatch.setattr("finetune.evaluate.retention.grade", lambda task, body, jail: grades[task.name])
    renderer = Renderer(loaded.tokenizer, loaded.family, 1024)
    whole = RetentionSuite(renderer, EvaluateSection(retention_rows=6, batch_rows=4), pad_token=0)
    found = measured(whole, loaded, [f"function {name}" for name in grades])
    assert found["function gcd"].values == {PASSED.name: 1.0}
    assert (found["function comb"].values, found["function comb"].note) == ({PASSED.name: 0.0}, "it gave 1")
    assert (found["function isleap"].values, found["function isleap"].broken) == ({}, "no disk")


def test_the_shipped_texts_are_pieces_of_different_modules() -> None:
    texts = list(general_texts(1000))
    assert len(texts) == len({example.cluster for example in texts}) == 96


def test_each_half_asks_for_no_loss_above_a_margin() -> None:
    assert [metric.margin for metric in RetentionSuite.metrics] == [0.02, 0.05]
