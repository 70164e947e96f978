"""Tasks that tests grade: a script that is always right scores 1, one that is always wrong 0, through the same path."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import DatasetError, InputError, MachineError
from finetune.contracts.executed import SUITE_NAME, ExecutedSuite, ExecutedTask, FileText
from finetune.contracts.io import write_json
from finetune.evaluate.executed.answer import Form
from finetune.evaluate.executed.answering import Answering, Request
from finetune.evaluate.executed.chosen import FOREIGN, UNLABELLED, choose_tasks
from finetune.evaluate.executed.grade import Grader, check_grading
from finetune.evaluate.executed.passing import pass_at_k
from finetune.evaluate.executed.scripted import AlwaysWrong, Oracle
from finetune.evaluate.executed.suite import ExecutedTasks, executed_suite
from finetune.evaluate.suite import Measured, Subject
from finetune.execution.runners.base import TestRun
from finetune.model.loading import load_base
from finetune.recipe.schema import EvaluateSection
from finetune.render.rows import Renderer

Make = Callable[..., ExecutedTask]
SECTION = EvaluateSection(executed_new_tokens=256, batch_rows=2)
NOBODY = Subject("base", None)


@pytest.fixture(scope="module")
def renderer(tiny_base: Path) -> Renderer:
    base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    return Renderer(base.tokenizer, base.family, 2048)


class Asked:
    """Says what a function makes of a request, and counts."""

    def __init__(self, say: Callable[[Request], str]) -> None:
        self.say = say
        self.requests: list[Request] = []

    def answers(self, subject: Subject, requests: Sequence[Request]) -> list[str]:
        self.requests += requests
        return [self.say(request) for request in requests]


def measured(suite: ExecutedTasks, task_ids: Sequence[str] | None = None) -> dict[str, Measured]:
    found: list[Measured] = []
    suite.measure(NOBODY, task_ids or [task.id for task in suite.tasks], told=found.append)
    assert len({one.task_id for one in found}) == len(found)
    return {one.task_id: one for one in found}


@pytest.fixture
def scripted(renderer: Renderer, tmp_path: Path) -> Callable[..., ExecutedTasks]:
    def build(folder: Path, answering: Answering, section: EvaluateSection = SECTION) -> ExecutedTasks:
        return executed_suite([folder], renderer, section, cache=tmp_path / "grades", answering=answering)

    return build


@pytest.mark.parametrize("family", ["qwen3_5", "llama"])
def test_the_oracle_scores_one_and_the_wrong_script_nothing(
    family: str,
    family_base: Callable[[str], Path],
    make_suite: Callable[..., Path],
    body: Make,
    commit: Make,
    tmp_path: Path,
) -> None:
    base = load_base(family_base(family), quantization=Quantization.NONE, device="cpu")
    renderer = Renderer(base.tokenizer, base.family, 4096)
    folder = make_suite(body(), body(id="seen", seen=True), commit())
    tasks = choose_tasks([folder], renderer, SECTION).tasks
    forms: dict[str, set[Form]] = {"qwen3_5": {"infill", "blocks"}, "llama": {"body", "blocks"}}
    assert {one.prompt.form for one in tasks} == forms[family]
    for script, value in ((Oracle(tasks), 1.0), (AlwaysWrong(tasks), 0.0)):
        suite = executed_suite([folder], renderer, SECTION, cache=tmp_path / "grades", answering=script)
        found = measured(suite)
        assert {one.values.get("pass@1") for one in found.values()} == {value, None}
        assert found["seen"].values == {"pass@1, seen in training": value}
        assert {one.broken for one in found.values()} == {""}
        assert found["rounds"].values["answers in the asked form"] == 1.0


def test_groups_and_slices_say_what_training_knew(
    scripted: Any, make_suite: Callable[..., Path], body: Make, commit: Make
) -> None:
    folder = make_suite(body(), body(id="seen", seen=True), commit())
    suite = scripted(folder, Asked(lambda request: ""))
    assert {(task.id, task.group, task.slice) for task in suite.tasks} == {
        ("add", "body", "novel"),
        ("seen", "body", "seen"),
        ("rounds", "commit", "unknown"),
    }


def test_a_label_of_another_dataset_and_none_at_all_are_said_to_be_unknown(
    make_suite: Callable[..., Path], body: Make, renderer: Renderer
) -> None:
    folder = make_suite(body(id="seen", seen=True, slice=None), body(id="untold", slice=None))
    chosen = choose_tasks([folder], renderer, SECTION, trained_on="this")
    assert {one.task.id: one.knew for one in chosen.tasks} == {"seen": "seen", "untold": "unknown"}
    assert [(count.reason, count.count) for count in chosen.left_out] == [(UNLABELLED, 1)]
    suite = ExecutedSuite.model_validate_json((folder / SUITE_NAME).read_text())
    write_json(folder / SUITE_NAME, suite.model_copy(update={"labels_of": "other"}))
    chosen = choose_tasks([folder], renderer, SECTION, trained_on="this")
    assert {one.knew for one in chosen.tasks} == {"unknown"}
    assert [(count.reason, count.count) for count in chosen.left_out] == [(FOREIGN, 2)]
    assert {one.knew for one in choose_tasks([folder], renderer, SECTION, trained_on="other").tasks} == {
        "seen",
        "unknown",
    }


def test_an_answer_that_breaks_another_test_fails_and_says_which(
    scripted: Any, make_suite: Callable[..., Path], body: Make
) -> None:
    half = "self.items += [price] * count"
    suite = scripted(make_suite(body()), Asked(lambda request: half))
    found = measured(suite)["add"]
    assert found.values == {"pass@1": 0.0, "tests made to pass": 0.5}
    assert found.note == "failed 1: tests/test_cart.py::test_add_refuses"
    # the covering tests pass, one of the others does not
    kept = body(fail_to_pass=("tests/test_cart.py::test_add",), pass_to_pass=("tests/test_cart.py::test_add_refuses",))
    found = measured(scripted(make_suite(kept), Asked(lambda request: half)))["add"]
    assert found.values == {"pass@1": 0.0, "tests made to pass": 1.0}
    assert found.note == "broke 1: tests/test_cart.py::test_add_refuses"


@pytest.mark.parametrize(
    "answer", ["return (", "import os; os._exit(0)", "while True:\n            pass", "raise SystemExit(0)"]
)
def test_code_that_ends_the_test_run_fails_and_is_not_broken(
    scripted: Any, make_suite: Callable[..., Path], body: Make, answer: str
) -> None:
    suite = scripted(make_suite(body(timeout_seconds=4.0)), Asked(lambda request: answer))
    found = measured(suite)["add"]
    assert (found.values["pass@1"], found.broken) == (0.0, "")


def test_the_same_answer_is_run_once_and_a_bad_form_never(
    scripted: Any, make_suite: Callable[..., Path], commit: Make, body: Make, renderer: Renderer, tmp_path: Path
) -> None:
    folder = make_suite(body(), commit())
    suite = scripted(folder, Asked(lambda request: "pass" if request.prompt.form == "infill" else "no blocks"))
    first = measured(suite)
    assert first["rounds"].values == {"pass@1": 0.0, "tests made to pass": 0.0, "answers in the asked form": 0.0}
    assert "no answer in the form" in first["rounds"].note
    (kept,) = (tmp_path / "grades").rglob("*.json")

    def no_run(*_: object) -> TestRun:
        raise AssertionError("it was graded already")

    chosen = choose_tasks([folder], renderer, SECTION)
    again = ExecutedTasks(chosen, Grader(no_run, tmp_path / "grades"), suite._answering, section=SECTION)
    assert measured(again) == first
    kept.write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        measured(again)


def test_what_kept_the_tests_from_running_counts_for_nobody(
    make_suite: Callable[..., Path], body: Make, renderer: Renderer, tmp_path: Path
) -> None:
    chosen = choose_tasks([make_suite(body())], renderer, SECTION)
    runs: list[int] = []

    def broken(*_: object) -> TestRun:
        runs.append(1)
        return TestRun({}, "no interpreter", 0.0, "")

    grader = Grader(broken, tmp_path / "grades")
    suite = ExecutedTasks(chosen, grader, Oracle(chosen.tasks), section=SECTION)
    found = measured(suite)["add"]
    assert (found.broken, dict(found.values), len(runs)) == ("no interpreter", {}, 2)
    assert not list((tmp_path / "grades").rglob("*.json"))
    with pytest.raises(MachineError, match="no interpreter"):
        check_grading(grader, chosen.tasks)


def test_tests_that_pass_a_wrong_answer_stop_the_suite(
    make_suite: Callable[..., Path], body: Make, renderer: Renderer, tmp_path: Path
) -> None:
    task = body(fail_to_pass=("tests/test_cart.py::test_empty",), pass_to_pass=())
    with pytest.raises(MachineError, match="does nothing passes"):
        executed_suite([make_suite(task)], renderer, SECTION, cache=tmp_path)


def test_results_come_as_tasks_are_graded_and_only_those_asked_for(
    scripted: Any, make_suite: Callable[..., Path], body: Make
) -> None:
    script = Asked(lambda request: "pass")
    suite = scripted(make_suite(*(body(id=f"add{index}") for index in range(5))), script)
    assert measured(suite, ["add3"]).keys() == {"add3"}
    assert len(script.requests) <= SECTION.batch_rows
    assert "add3" in {request.prompt.task_id for request in script.requests}


def test_k_answers_are_drawn_beside_the_greedy_one(scripted: Any, make_suite: Callable[..., Path], body: Make) -> None:
    right = 'if count < 1:\n            raise ValueError("count")\n        self.items += [price] * count'
    section = EvaluateSection(executed_new_tokens=256, executed_samples=4, executed_k=2)
    script = Asked(lambda request: right if request.sample in (2, 4) else "pass")
    found = measured(scripted(make_suite(body()), script, section))["add"]
    assert [request.sample for request in script.requests] == [0, 1, 2, 3, 4]
    assert found.values["pass@1"] == 0.0
    assert found.values["pass@1, drawn"] == 0.5
    assert found.values["pass@k"] == pytest.approx(1 - 1 / 6)


def test_pass_at_k_is_the_share_of_draws_that_hold_one_that_passes() -> None:
    from itertools import combinations

    for passed in range(6):
        draws = list(combinations([True] * passed + [False] * (5 - passed), 3))
        assert pass_at_k(5, passed, k=3) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_what_cannot_be_asked_is_counted_by_reason(
    make_suite: Callable[..., Path], body: Make, commit: Make, renderer: Renderer, tmp_path: Path
) -> None:
    gone = commit(id="gone", gold=(FileText(path="shop/cart.py", text=None),))
    folder = make_suite(body(), body(id="more"), commit(), gone)
    few = SECTION.model_copy(update={"executed_tasks": 1})
    chosen = choose_tasks([folder, folder], renderer, few)
    assert len(chosen.tasks) == 1
    assert sum(count.count for count in chosen.left_out) >= 6
    short = choose_tasks([folder], renderer, SECTION.model_copy(update={"executed_new_tokens": 20}))
    reasons = {count.reason: count.count for count in short.left_out}
    assert reasons["body task passed over: what its author wrote exceeds executed_new_tokens"] == 2
    assert reasons["commit task passed over: search/replace blocks cannot say what its author did"] == 1
    with pytest.raises(InputError, match="executed_tasks"):
        executed_suite([folder], renderer, SECTION.model_copy(update={"executed_tasks": 0}), cache=tmp_path)


def test_a_long_file_is_cropped_far_from_the_hole_and_counted(
    make_suite: Callable[..., Path], body: Make, renderer: Renderer
) -> None:
    tight = Renderer(renderer.tokenizer, renderer.family, 320)
    chosen = choose_tasks([make_suite(body())], tight, SECTION.model_copy(update={"executed_new_tokens": 128}))
    assert [count.reason for count in chosen.left_out] == ["body task kept, its file cropped far from the hole"]
    text = renderer.tokenizer.decode(chosen.tasks[0].prompt.token_ids)
    assert 'times."""' in text
    assert "def total" in text
    assert '"""A cart."""' not in text


def test_a_damaged_folder_is_refused(
    make_suite: Callable[..., Path], body: Make, renderer: Renderer, tmp_path: Path
) -> None:
    folder = make_suite(body())
    (folder / "trees" / "one" / "tests" / "test_cart.py").write_text("")
    with pytest.raises(DatasetError, match="was altered"):
        executed_suite([folder], renderer, SECTION, cache=tmp_path)


def test_a_digest_changes_with_all_that_decides_results(
    make_suite: Callable[..., Path], body: Make, renderer: Renderer, tmp_path: Path
) -> None:
    folder = make_suite(body())

    def digest(**update: object) -> str:
        section = SECTION.model_copy(update=update)
        grader = Grader(lambda *_: TestRun({}, "", 0.0, ""), tmp_path)
        chosen = choose_tasks([folder], renderer, section)
        return ExecutedTasks(chosen, grader, Asked(lambda request: ""), section=section).digest

    changes = ({}, {"executed_new_tokens": 255}, {"executed_samples": 5}, {"batch_rows": 3}, {"seed": 1})
    assert len({digest(**update) for update in changes}) == 5
    assert digest() == digest(resamples=500)


def test_a_model_answers_through_the_same_path(
    tiny_base: Path, make_suite: Callable[..., Path], body: Make, commit: Make, tmp_path: Path
) -> None:
    base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    renderer = Renderer(base.tokenizer, base.family, 2048)
    section = EvaluateSection(executed_new_tokens=64, executed_samples=2, executed_k=2, batch_rows=2)
    folder = make_suite(body(gold=(FileText(path="shop/cart.py", text="        pass"),)), commit())
    chosen = choose_tasks([folder], renderer, section)
    from finetune.evaluate.executed.answering import ModelAnswering

    requests = [Request(one.prompt, sample) for one in chosen.tasks for sample in range(3)]
    answering = ModelAnswering(renderer, section)
    subject = Subject("base", base.model)
    found = answering.answers(subject, requests)
    assert len(set(found)) > 2
    assert found[2] == answering.answers(subject, [requests[2]])[0] or base.model.dtype.itemsize < 4
    assert answering.answers(subject, requests) == found
