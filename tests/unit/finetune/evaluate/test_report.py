"""An evaluation from folders to report: what is scored, that it repeats, and what bad input gives."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pytest
import torch

from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.dataset import Example, Role, Split, Task
from finetune.contracts.errors import AdapterError, DatasetError, RunError
from finetune.evaluate.heldout import choose_examples, heldout_rows, score_rows
from finetune.evaluate.infill import choose_gaps
from finetune.evaluate.report import EvaluationReport, evaluate, load_report, save_report
from finetune.model.loading import LoadedBase
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import open_dataset
from finetune.render.rows import MASKED, Renderer
from finetune.terminal.progress import Progress


class SavedAdapter(Protocol):
    """What the fixture adapter is."""

    folder: Path


SECTION = EvaluateSection(max_rows=20, infill_rows=6, max_new_tokens=48, resamples=200, batch_rows=4)


@pytest.fixture(scope="module")
def report(loaded: LoadedBase, adapter: SavedAdapter, tiny_dataset: Path) -> EvaluationReport:
    return evaluate(loaded, adapter.folder, tiny_dataset, section=SECTION, max_tokens=256)


def test_both_models_are_measured_on_the_same_heldout_rows(report: EvaluationReport, tiny_dataset: Path) -> None:
    heldout = {example.id for example in open_dataset(tiny_dataset).examples(Split.HELDOUT)}
    assert len(report.rows) == 20
    assert {row.example_id for row in report.rows} <= heldout
    assert len(report.gaps) == 6
    assert all(row.base_bits > 0 and row.base_bits != row.adapter_bits for row in report.rows)


def test_the_primary_score_is_what_its_rows_sum_to(report: EvaluationReport) -> None:
    score = report.scores[0]
    assert score.name == "bits per byte"
    num_bytes = sum(row.num_bytes for row in report.rows)
    assert score.base == pytest.approx(sum(row.base_bits for row in report.rows) / num_bytes)
    assert score.difference == pytest.approx(score.adapter - score.base)
    assert score.low <= score.difference <= score.high
    assert report.verdict == score.verdict
    names = [score.name for score in report.scores]
    assert names[1:3] == ["infill exact match", "infill edit similarity"]
    assert set(names[3:]) == {f"bits per byte, {task}" for task in ("infill", "docstring", "pretrain")}


def test_an_evaluation_repeats_and_leaves_the_base_as_it_was(
    report: EvaluationReport, loaded: LoadedBase, adapter: SavedAdapter, tiny_dataset: Path
) -> None:
    again = evaluate(loaded, adapter.folder, tiny_dataset, section=SECTION, max_tokens=256)
    assert again == report
    assert not [name for name, _ in loaded.model.named_parameters() if "lora" in name]


def test_an_adapter_that_changes_nothing_is_not_called_better(
    loaded: LoadedBase, save_adapter: Callable[..., SavedAdapter], tiny_dataset: Path, tmp_path: Path
) -> None:
    idle = save_adapter(tmp_path / "idle", spread=0.0)
    found = evaluate(loaded, idle.folder, tiny_dataset, section=SECTION, max_tokens=256)
    assert {score.verdict for score in found.scores} == {"not shown"}
    assert {score.difference for score in found.scores} == {0.0}


def test_a_report_is_read_back_with_its_rows(report: EvaluationReport, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    save_report(report, path)
    assert load_report(path) == report
    assert '"rows"' not in path.read_text()
    assert (tmp_path / "evaluation_rows.parquet").is_file()


def test_a_damaged_report_names_its_file(report: EvaluationReport, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    with pytest.raises(RunError, match="does not exist"):
        load_report(path)
    save_report(report, path)
    (tmp_path / "evaluation_rows.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(RunError, match=r"evaluation_rows\.parquet is damaged"):
        load_report(path)
    path.write_text(path.read_text()[:200])
    with pytest.raises(RunError, match="is damaged"):
        load_report(path)


def test_the_table_shows_each_score_and_what_was_left_out(report: EvaluationReport) -> None:
    text = report.text()
    assert report.verdict in text.splitlines()[0]
    assert "infill exact match (share)" in text
    assert text.count(" to ") >= len(report.scores)


def test_nothing_held_out_is_an_error(
    loaded: LoadedBase,
    adapter: SavedAdapter,
    tmp_path: Path,
    make_dataset: Callable[[Path, Sequence[Example]], Path],
    make_example: Callable[..., Example],
) -> None:
    folder = make_dataset(tmp_path / "train-only", [make_example(Task.PRETRAIN, [(Role.TARGET, "x = 1\n")])])
    with pytest.raises(DatasetError, match="no held-out row"):
        evaluate(loaded, adapter.folder, folder, section=SECTION, max_tokens=256)


def test_a_damaged_adapter_is_refused_before_anything_is_scored(
    loaded: LoadedBase, save_adapter: Callable[..., SavedAdapter], tiny_dataset: Path, tmp_path: Path
) -> None:
    saved = save_adapter(tmp_path / "cut")
    weights = saved.folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(AdapterError, match="truncated"):
        evaluate(
            loaded, tmp_path / "cut", tiny_dataset, section=SECTION, max_tokens=256, progress=lambda *_: pytest.fail()
        )
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
    with Progress("x", 1) as progress:
        (bits,) = score_rows(loaded.model, [row], pad_token=0, batch_rows=2, progress=progress)
    assert bits == pytest.approx(expected / math.log(2), rel=1e-3)


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
