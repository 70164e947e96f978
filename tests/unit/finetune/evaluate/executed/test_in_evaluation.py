"""Executed tasks in an evaluation: paired, kept, and refused with a reason where they cannot be graded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.errors import DatasetError
from finetune.contracts.evaluation import SuiteName
from finetune.contracts.executed import ExecutedTask, FileText
from finetune.evaluate.report import Evaluation, evaluate, recompute
from finetune.evaluate.suites import Site
from finetune.execution.jail import Jail
from finetune.model.loading import LoadedBase
from finetune.recipe.schema import EvaluateSection

SECTION = EvaluateSection(executed_new_tokens=64, resamples=200, batch_rows=4, max_rows=4)
Run = Callable[..., Evaluation]


@pytest.fixture
def run(
    loaded: LoadedBase,
    adapter: Any,
    tiny_dataset: Path,
    tmp_path: Path,
    make_suite: Callable[..., Path],
    body: Callable[..., ExecutedTask],
) -> Run:
    short = (FileText(path="shop/cart.py", text="        self.items += [price] * count"),)
    folder = make_suite(
        *(
            body(id=name, gold=short, fail_to_pass=("tests/test_cart.py::test_add",), seen=name == "seen")
            for name in ("one", "two", "seen")
        )
    )

    def evaluation(*names: SuiteName) -> Evaluation:
        site = Site(tmp_path / "measured", tasks=[folder])
        return evaluate(loaded, adapter.folder, tiny_dataset, names=names, section=SECTION, max_tokens=1024, site=site)

    return evaluation


def test_both_models_are_graded_and_what_was_graded_is_kept(run: Run) -> None:
    first = run(SuiteName.EXECUTED)
    suite = first.report.suite(SuiteName.EXECUTED)
    assert suite is not None and suite.measured
    assert {(row.task_id, row.metric) for row in first.rows} == {
        *((name, metric) for name in ("one", "two") for metric in ("pass@1", "tests made to pass")),
        ("seen", "pass@1, seen in training"),
    }
    assert next(score.name for score in suite.scores if not score.part) == "pass@1"
    assert recompute(first.report, first.rows) == first.report.scores
    notes = {answer.task_id: answer.note for answer in first.answers}
    assert all("base: failed" in note or "base: no answer" in note for note in notes.values())
    again = run(SuiteName.EXECUTED)
    assert again.rows == first.rows
    cost = again.report.suites[0].cost
    assert cost is not None and (cost.base_cached, cost.adapter_cached) == (3, 3)


def test_without_a_jail_the_other_suites_are_measured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune.contracts.errors import MachineError

    def none() -> Jail:
        raise MachineError("No jail on this machine, so no code under test is run.", "Install bubblewrap.")

    monkeypatch.setattr(Jail, "open", none)
    report = run(SuiteName.HELDOUT, SuiteName.EXECUTED).report
    suite = report.suite(SuiteName.EXECUTED)
    assert suite is not None and "No jail on this machine" in suite.reason
    assert report.suites[0].measured
    with pytest.raises(DatasetError, match="No jail on this machine"):
        run(SuiteName.EXECUTED)
