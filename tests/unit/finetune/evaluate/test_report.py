"""An evaluation from folders to report: what is scored, that it repeats and goes on, and what bad input gives."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
import torch

from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.dataset import Example, Role, Split, Task
from finetune.contracts.errors import AdapterError, DatasetError, RunError
from finetune.contracts.evaluation import SuiteName
from finetune.evaluate.heldout import HeldoutRow, choose_examples, heldout_rows
from finetune.evaluate.heldout_suite import HeldoutSuite
from finetune.evaluate.infill import choose_gaps
from finetune.evaluate.report import Evaluation, evaluate, load_evaluation, recompute, save_evaluation
from finetune.evaluate.suite import Measured, Subject
from finetune.evaluate.suites import Site
from finetune.evaluate.text import report_text
from finetune.model.loading import LoadedBase
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import open_dataset
from finetune.render.rows import MASKED, Renderer


class SavedAdapter(Protocol):
    """What the fixture adapter is."""

    folder: Path


SECTION = EvaluateSection(max_rows=20, infill_rows=6, max_new_tokens=48, resamples=200, batch_rows=4)
NAMES = (SuiteName.HELDOUT, SuiteName.INFILL)


def run(
    loaded: LoadedBase,
    folder: Path,
    dataset: Path,
    journals: Path,
    *,
    names: Sequence[SuiteName] = NAMES,
    section: EvaluateSection = SECTION,
) -> Evaluation:
    return evaluate(loaded, folder, dataset, names=names, section=section, max_tokens=256, site=Site(journals))


def bits_of(loaded: LoadedBase, rows: Sequence[HeldoutRow], *, batch_rows: int) -> dict[str, float]:
    suite, found = HeldoutSuite(rows, pad_token=0, batch_rows=batch_rows), dict[str, float]()
    suite.measure(
        Subject("base", loaded.model),
        [task.id for task in suite.tasks],
        told=lambda one: found.update({one.task_id: one.values["bits per byte"]}),
    )
    return found


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("measured")


@pytest.fixture(scope="module")
def evaluation(loaded: LoadedBase, adapter: SavedAdapter, tiny_dataset: Path, journals: Path) -> Evaluation:
    return run(loaded, adapter.folder, tiny_dataset, journals)


def test_both_models_are_measured_on_the_same_heldout_rows(evaluation: Evaluation, tiny_dataset: Path) -> None:
    heldout = {example.id for example in open_dataset(tiny_dataset).examples(Split.HELDOUT)}
    rows = [row for row in evaluation.rows if row.metric == "bits per byte"]
    assert len(rows) == 20
    assert {row.task_id.partition("#")[0] for row in rows} <= heldout
    assert all(row.base > 0 and row.base != row.adapter for row in rows)
    assert sum(row.metric == "infill exact match" for row in evaluation.rows) == 6
    assert {row.repo for row in evaluation.rows} == {"shop"}


def test_the_primary_score_is_what_its_rows_sum_to(evaluation: Evaluation) -> None:
    score = evaluation.report.scores[0]
    assert score.name == "bits per byte"
    rows = [row for row in evaluation.rows if row.metric == score.name]
    assert score.base == pytest.approx(sum(row.base for row in rows) / sum(row.size for row in rows))
    assert score.difference == pytest.approx(score.adapter - score.base)
    assert score.low <= score.difference <= score.high
    assert evaluation.report.verdict == score.verdict


def test_each_suite_says_what_it_scored_and_what_it_took(evaluation: Evaluation) -> None:
    heldout, infill = evaluation.report.suites
    assert (heldout.suite, infill.suite) == NAMES
    assert {score.name for score in heldout.scores} == {"bits per byte"}
    assert {"infill exact match", "infill edit similarity"} <= {score.name for score in infill.scores}
    assert heldout.cost is not None and heldout.cost.base_seconds > 0
    assert heldout.num_tasks == 20


def test_an_evaluation_repeats_and_leaves_the_base_as_it_was(
    evaluation: Evaluation, loaded: LoadedBase, adapter: SavedAdapter, tiny_dataset: Path, tmp_path: Path
) -> None:
    again = run(loaded, adapter.folder, tiny_dataset, tmp_path)
    assert again.rows == evaluation.rows
    assert again.answers == evaluation.answers
    assert again.report.scores == evaluation.report.scores
    assert not any("lora" in name for name, _ in loaded.model.named_modules())


def test_what_was_measured_is_not_measured_again(
    evaluation: Evaluation, loaded: LoadedBase, adapter: SavedAdapter, tiny_dataset: Path, journals: Path
) -> None:
    again = run(loaded, adapter.folder, tiny_dataset, journals)
    assert again.rows == evaluation.rows
    for suite in again.report.suites:
        assert suite.cost is not None
        assert (suite.cost.base_cached, suite.cost.adapter_cached) == (suite.num_tasks, suite.num_tasks)


def test_another_adapter_takes_over_the_base_alone(
    evaluation: Evaluation,
    loaded: LoadedBase,
    save_adapter: Callable[..., SavedAdapter],
    tiny_dataset: Path,
    journals: Path,
    tmp_path: Path,
) -> None:
    other = save_adapter(tmp_path / "other", spread=0.02)
    again = run(loaded, other.folder, tiny_dataset, journals)
    for suite in again.report.suites:
        assert suite.cost is not None
        assert (suite.cost.base_cached, suite.cost.adapter_cached) == (suite.num_tasks, 0)
    assert [row.base for row in again.rows] == [row.base for row in evaluation.rows]
    assert [row.adapter for row in again.rows] != [row.adapter for row in evaluation.rows]


def test_a_killed_evaluation_goes_on_and_ends_the_same(
    evaluation: Evaluation,
    loaded: LoadedBase,
    adapter: SavedAdapter,
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = HeldoutSuite.measure

    def dies(
        self: HeldoutSuite, subject: Subject, task_ids: Sequence[str], *, told: Callable[[Measured], None]
    ) -> None:
        left = 6

        def counted(measured: Measured) -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            told(measured)

        whole(self, subject, task_ids, told=counted)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(HeldoutSuite, "measure", dies)
        run(loaded, adapter.folder, tiny_dataset, tmp_path)
    again = run(loaded, adapter.folder, tiny_dataset, tmp_path)
    cost = again.report.suites[0].cost
    assert cost is not None and (cost.base_cached, cost.adapter_cached) == (6, 0)
    assert again.rows == evaluation.rows


def test_rows_are_scored_without_prompts_and_without_end_tokens(loaded: LoadedBase, tiny_dataset: Path) -> None:
    renderer = Renderer(loaded.tokenizer, loaded.family, 256)
    dataset = open_dataset(tiny_dataset)
    ends = {loaded.tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", "<|im_end|>")}
    rows = heldout_rows(choose_examples(dataset, None, seed=0), renderer, max_rows=200)
    assert len({row.task_id for row in rows}) == len(rows)
    for row in rows:
        learned = [label for label in row.labels if label != MASKED]
        assert not ends & set(learned)
        assert row.num_tokens == len(learned)
        assert row.num_bytes == len(loaded.tokenizer.decode(learned).encode())


def test_batched_bits_are_those_of_single_rows(loaded: LoadedBase, tiny_dataset: Path) -> None:
    renderer = Renderer(loaded.tokenizer, loaded.family, 256)
    rows = heldout_rows(choose_examples(open_dataset(tiny_dataset), None, seed=0), renderer, max_rows=12)

    batched, single = bits_of(loaded, rows, batch_rows=5), bits_of(loaded, rows, batch_rows=1)
    assert batched.keys() == single.keys()
    assert all(math.isclose(batched[name], single[name], rel_tol=1e-3) for name in single)


def test_an_evaluation_is_read_back_with_its_rows(evaluation: Evaluation, tmp_path: Path) -> None:
    saved = save_evaluation(evaluation, tmp_path / "evaluation")
    assert load_evaluation(tmp_path / "evaluation") == saved
    assert saved.rows == evaluation.rows
    assert recompute(saved.report, saved.rows) == saved.report.scores


@pytest.mark.parametrize("name", ["report.json", "rows.parquet", "answers.parquet"])
def test_a_file_that_was_altered_or_is_missing_is_named(evaluation: Evaluation, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "evaluation"
    save_evaluation(evaluation, folder)
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.", b"1.", 1) if name == "report.json" else content[:-9] + b"x" + content[-8:])
    with pytest.raises(RunError, match=name.replace(".", r"\.")):
        load_evaluation(folder)
    path.unlink()
    with pytest.raises(RunError, match=name.replace(".", r"\.")):
        load_evaluation(folder)


def test_the_table_shows_each_score_and_what_was_left_out(evaluation: Evaluation) -> None:
    text = report_text(evaluation.report)
    assert all(score.name in text for score in evaluation.report.scores)
    assert evaluation.report.verdict in text.splitlines()[0].lower()
    assert "  Infill exact match is not shown: both came to the same." in text.splitlines()


def test_a_suite_that_cannot_be_measured_says_why(
    loaded: LoadedBase, adapter: SavedAdapter, tiny_dataset: Path, journals: Path
) -> None:
    section = EvaluateSection(**{**SECTION.model_dump(), "infill_rows": 0})
    report = run(loaded, adapter.folder, tiny_dataset, journals, section=section).report
    infill = report.suite(SuiteName.INFILL)
    assert infill is not None and not infill.measured
    assert "no held-out gap" in infill.reason
    assert infill.reason in report_text(report)
    with pytest.raises(DatasetError, match="Nothing can be measured"):
        run(loaded, adapter.folder, tiny_dataset, journals, names=[SuiteName.INFILL], section=section)


def test_an_adapter_of_another_base_is_refused(
    loaded: LoadedBase, adapter: SavedAdapter, tiny_dataset: Path, tmp_path: Path
) -> None:
    other = replace(loaded, identity=loaded.identity.model_copy(update={"digest": "0" * 64}))
    with pytest.raises(AdapterError, match="base"):
        run(other, adapter.folder, tiny_dataset, tmp_path)


def test_an_adapter_that_changes_nothing_is_not_called_better(
    loaded: LoadedBase, save_adapter: Callable[..., SavedAdapter], tiny_dataset: Path, tmp_path: Path
) -> None:
    idle = save_adapter(tmp_path / "idle", spread=0.0)
    found = run(loaded, idle.folder, tiny_dataset, tmp_path / "measured").report
    assert {score.verdict for score in found.scores} == {"not shown"}
    assert {score.difference for score in found.scores} == {0.0}


def test_nothing_held_out_is_an_error(
    loaded: LoadedBase,
    adapter: SavedAdapter,
    tmp_path: Path,
    make_dataset: Callable[[Path, Sequence[Example]], Path],
    make_example: Callable[..., Example],
) -> None:
    folder = make_dataset(tmp_path / "train-only", [make_example(Task.PRETRAIN, [(Role.TARGET, "x = 1\n")])])
    with pytest.raises(DatasetError, match="no held-out row"):
        run(loaded, adapter.folder, folder, tmp_path / "measured")


def test_a_damaged_adapter_is_refused_before_anything_is_scored(
    loaded: LoadedBase, save_adapter: Callable[..., SavedAdapter], tiny_dataset: Path, tmp_path: Path
) -> None:
    saved = save_adapter(tmp_path / "cut")
    weights = saved.folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(AdapterError, match="truncated"):
        run(loaded, tmp_path / "cut", tiny_dataset, tmp_path / "measured")
    assert not (tmp_path / "measured").exists()
    with pytest.raises(AdapterError):
        read_adapter(tmp_path / "cut")


def test_only_bytes_of_learned_text_are_scored(loaded: LoadedBase, make_example: Callable[..., Example]) -> None:
    example = make_example(
        Task.INFILL, [(Role.PREFIX, "a = "), (Role.SUFFIX, "\n"), (Role.TARGET, "größe")], split=Split.HELDOUT
    )
    (row,) = heldout_rows([example], Renderer(loaded.tokenizer, loaded.family, 64), max_rows=5)
    assert (row.num_bytes, row.num_tokens) == (7, 7)
    assert row.labels[-1] == MASKED, "the end token is no text"
    ids = torch.tensor([row.input_ids])
    with torch.inference_mode():
        log_probs = loaded.model(input_ids=ids).logits[0].float().log_softmax(-1)
    expected = -sum(float(log_probs[place - 1, label]) for place, label in enumerate(row.labels) if label != MASKED)
    assert bits_of(loaded, [row], batch_rows=2)[row.task_id] == pytest.approx(expected / math.log(2), rel=1e-3)


def test_the_choice_of_rows_depends_on_ids_and_seed_alone(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    first, again, other = ([row.id for row in choose_examples(dataset, None, seed=seed)] for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)


def test_gaps_that_could_not_be_matched_are_passed_over_and_counted(
    loaded: LoadedBase, make_example: Callable[..., Example]
) -> None:
    examples = [
        make_example(Task.INFILL, [(Role.PREFIX, "a"), (Role.SUFFIX, "b"), (Role.TARGET, text)])
        for text in ("x" * 17, " \n", "x" * 16, "y")
    ]
    gaps = choose_gaps(examples, Renderer(loaded.tokenizer, loaded.family, 64), max_rows=1, max_new_tokens=16)
    assert [gap.wanted for gap in gaps.chosen] == ["x" * 16]
    assert [count.count for count in gaps.left_out] == [1, 1]
