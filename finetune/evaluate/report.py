"""Evaluate an adapter against its base on a dataset's held-out split, and the report that comes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from finetune.contracts.adapter import Score
from finetune.contracts.adapter_files import check_base, read_adapter
from finetune.contracts.dataset import Contract, ReasonCount, Task
from finetune.contracts.errors import DatasetError, RunError
from finetune.contracts.io import read_model, write_json
from finetune.evaluate.heldout import HeldoutRow, choose_examples, heldout_rows, score_rows
from finetune.evaluate.infill import Gap, choose_gaps, fill_gaps
from finetune.evaluate.row_scores import figure_scores
from finetune.evaluate.rows import HINT, GapFigure, RowFigure, read_figures, write_figures
from finetune.model.loading import LoadedBase
from finetune.model.lora import attach_saved, detach
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import open_dataset
from finetune.render.rows import Renderer
from finetune.terminal.output import table
from finetune.terminal.progress import Progress

ADAPTER_NAME = "evaluated"
ROWS_SUFFIX = "_rows.parquet"


class EvaluationReport(Contract):
    """What an evaluation found. scores[0] is the primary figure; its verdict is the report's.

    rows and gaps hold what each score was made of, so that any two evaluations can be paired later; they are written
    beside the report, not into it. left_out counts what could not be scored, by reason.
    """

    schema_version: Literal[1] = 1
    adapter_id: str
    run_id: str
    base_name: str
    base_digest: str
    dataset_digest: str
    section: EvaluateSection
    max_tokens: int
    scores: tuple[Score, ...] = Field(min_length=1)
    left_out: tuple[ReasonCount, ...] = ()
    rows: tuple[RowFigure, ...] = Field(default=(), exclude=True)
    gaps: tuple[GapFigure, ...] = Field(default=(), exclude=True)

    @property
    def verdict(self) -> str:
        """better, not shown or worse, on the primary figure."""
        return self.scores[0].verdict

    def text(self) -> str:
        """The table that a person reads."""
        rows = [
            (
                score.name + (f" ({score.unit})" if score.unit else ""),
                f"{score.base:.3f}",
                f"{score.adapter:.3f}",
                f"{score.difference:+.3f}",
                f"{score.low:+.3f} to {score.high:+.3f}",
                f"{score.num_items:,}",
                f"{score.num_clusters:,}",
                score.verdict,
            )
            for score in self.scores
        ]
        header = ("held-out figure", "base", "adapter", "difference", "95 % interval", "rows", "files", "verdict")
        lines = [f"{self.adapter_id} against {self.base_name}: {self.verdict}", "", table(rows, header=header)]
        lines += [f"  {count.count:,} x {count.reason}" for count in self.left_out]
        return "\n".join(lines)


def evaluate(
    base: LoadedBase,
    adapter_folder: Path,
    dataset_folder: Path,
    *,
    section: EvaluateSection,
    max_tokens: int,
    progress: Callable[[str, int], Progress] = Progress,
) -> EvaluationReport:
    """Score base and adapter on the same held-out rows; base is left without the adapter.

    progress makes the bar of a piece of work from its label and total. Raises AdapterError or DatasetError when a
    folder is damaged, when the adapter is of another base, or when nothing is held out.
    """
    manifest = read_adapter(adapter_folder)
    check_base(manifest, base.identity, chat_template=base.chat_template_digest, tokenizer=base.tokenizer_digest)
    dataset = open_dataset(dataset_folder)
    renderer = Renderer(base.tokenizer, base.family, max_tokens)
    rows = heldout_rows(choose_examples(dataset, None, seed=section.seed), renderer, max_rows=section.max_rows)
    if not rows:
        raise DatasetError(
            f"{dataset_folder} has no held-out row that fits in {max_tokens} tokens.",
            "See `finetune data stats`; build the dataset from a longer history or from more repositories.",
        )
    gaps = choose_gaps(
        choose_examples(dataset, [Task.INFILL], seed=section.seed),
        renderer,
        max_rows=section.infill_rows,
        max_new_tokens=section.max_new_tokens,
    )
    subject = _Subject(renderer, rows, gaps.chosen, section, progress)
    bits_base, answers_base = subject.measure(base.model, base.identity.name)
    model = attach_saved(base, adapter_folder, ADAPTER_NAME)
    try:
        bits_adapter, answers_adapter = subject.measure(model, "adapter")
    finally:
        detach(model, ADAPTER_NAME)
    figures = tuple(map(RowFigure.of, rows, zip(bits_base, bits_adapter, strict=True)))
    filled = tuple(map(GapFigure.of, gaps.chosen, zip(answers_base, answers_adapter, strict=True)))
    return EvaluationReport(
        adapter_id=manifest.adapter_id,
        run_id=manifest.run_id,
        base_name=base.identity.name,
        base_digest=base.identity.digest,
        dataset_digest=dataset.manifest.content_digest,
        section=section,
        max_tokens=max_tokens,
        scores=figure_scores(figures, filled, section),
        left_out=(*renderer.reasons(), *gaps.left_out),
        rows=figures,
        gaps=filled,
    )


@dataclass(frozen=True)
class _Subject:
    """What both models are measured on."""

    renderer: Renderer
    rows: Sequence[HeldoutRow]
    gaps: Sequence[Gap]
    section: EvaluateSection
    progress: Callable[[str, int], Progress]

    def measure(self, model: Any, name: str) -> tuple[list[float], list[str]]:
        """Bits of each row and the answer in each gap."""
        tokenizer, size = self.renderer.tokenizer, self.section.batch_rows
        found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        pad_token = int(found or 0)
        with self.progress(f"Scoring {name}", len(self.rows)) as bar:
            bits = score_rows(model, self.rows, pad_token=pad_token, batch_rows=size, progress=bar)
        if not self.gaps:
            return bits, []
        with self.progress(f"Filling gaps, {name}", len(self.gaps)) as bar:
            answers = fill_gaps(
                model,
                self.gaps,
                self.renderer,
                max_new_tokens=self.section.max_new_tokens,
                pad_token=pad_token,
                batch_rows=size,
                progress=bar,
            )
        return bits, answers


def save_report(report: EvaluationReport, path: Path) -> None:
    """Write report to path and its rows to <stem>_rows.parquet beside it. Raises MachineError when the disk refuses."""
    write_figures(rows_path(path), report.rows, report.gaps)
    write_json(path, report)


def load_report(path: Path) -> EvaluationReport:
    """The report at path with the rows beside it. Raises RunError when it is missing or damaged."""
    report = read_model(path, EvaluationReport, error=RunError, hint=HINT)
    rows, gaps = read_figures(rows_path(path))
    return report.model_copy(update={"rows": rows, "gaps": gaps})


def rows_path(path: Path) -> Path:
    """Where the rows of the report at path lie."""
    return path.with_name(f"{path.stem}{ROWS_SUFFIX}")
