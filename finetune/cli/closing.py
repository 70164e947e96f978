"""The demo's closing table."""

import shutil
import sys
from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from finetune.cli.ask import Answers
from finetune.contracts.adapter import Score, whole_scores
from finetune.contracts.dataset import DatasetManifest, ReasonCount, Split, Task
from finetune.contracts.run import RunState
from finetune.terminal.options import DEFAULT_HOME
from finetune.terminal.output import table
from finetune.terminal.progress import format_seconds
from finetune.tracking.summary import TrainingFigures, forecast_text, utilisation_text

NAME = "finetune"
SHOWN_REASONS = 6
SHOWN_LINES = 4


class DemoResult(BaseModel):
    """What the demo did."""

    model_config = ConfigDict(frozen=True)

    repository: str
    dataset: DatasetManifest
    run: RunState
    training: TrainingFigures | None
    scores: tuple[Score, ...]
    answers: Answers
    seconds: int


def closing_text(result: DemoResult, home: Path) -> str:
    """The whole demo on one screen."""
    program, flag = program_name(), "" if home == DEFAULT_HOME else f" --home {home}"
    parts = [
        "",
        f"The whole loop took {format_seconds(result.seconds)}. Nothing left this machine.",
        "",
        table([*_data_rows(result.dataset), *_training_rows(result.training)]),
        "",
        table(
            [_score_row(score) for score in whole_scores(result.scores)],
            header=("on held-out code", "base", "adapter", "difference", "95 % interval", "verdict"),
        ),
        "",
        *_answer_lines(result.answers),
        "",
        table(
            [
                ("adapter", result.run.adapter_id or ""),
                ("see the run", f"{program} runs ui{flag}"),
                ("serve it", f"{program} serve start embedded --adapter ours={result.run.adapter_id}{flag}"),
            ]
        ),
    ]
    return "\n".join(parts)


def program_name() -> str:
    """What to type for this program: its name where a shell finds it by that, else the path that it was started by."""
    started = Path(sys.argv[0])
    found = shutil.which(NAME)
    if started.name != NAME or not started.exists() or (found and Path(found).samefile(started)):
        return NAME
    return str(started)


def _data_rows(manifest: DatasetManifest) -> list[tuple[str, str]]:
    source = manifest.sources[0]
    by_task = [
        f"{manifest.num_examples(task=task):,} {task.value}" for task in Task if manifest.num_examples(task=task)
    ]
    held_out = manifest.num_examples(Split.HELDOUT)
    return [
        ("repository", f"{source.repo} at {source.commit[:10]}: {source.files:,} files, {source.commits:,} commits"),
        ("examples", ", ".join(by_task)),
        ("held out", f"{held_out:,} of {manifest.num_examples():,}, split by {manifest.split.method}"),
        ("left out", _reasons(manifest.dropped)),
        ("secrets redacted", _reasons(manifest.redacted)),
    ]


def _training_rows(figures: TrainingFigures | None) -> list[tuple[str, str]]:
    if figures is None:
        return []
    return [
        (
            "training loss",
            f"{figures.first_loss:.3f} in the first quarter, {figures.last_loss:.3f} in the last (nats per token), "
            f"{figures.steps:,} steps at {figures.tokens_per_second:,.0f} tokens/s",
        ),
        *(row for row in (("use", utilisation_text(figures)), ("forecast", forecast_text(figures))) if row[1]),
    ]


def _reasons(counts: tuple[ReasonCount, ...]) -> str:
    by_reason: Counter[str] = Counter()
    for row in counts:
        by_reason[row.reason] += row.count
    shown = [f"{count:,} {reason}" for reason, count in by_reason.most_common(SHOWN_REASONS)]
    rest = len(by_reason) - len(shown)
    return (", ".join(shown) + (f", {rest} more reasons" if rest > 0 else "")) or "none"


def _score_row(score: Score) -> tuple[str, ...]:
    name = score.name + (f" ({score.unit})" if score.unit else "")
    interval = f"{score.low:+.3f} to {score.high:+.3f}"
    return name, f"{score.base:.3f}", f"{score.adapter:.3f}", f"{score.difference:+.3f}", interval, score.verdict


def _answer_lines(answers: Answers) -> list[str]:
    before = "\n".join(answers.before.splitlines()[-SHOWN_LINES:])
    return [
        f"  The same gap, asked of both through the server ({answers.path}):",
        *(f"    | {line}" for line in before.splitlines()),
        *_said("the author wrote", answers.wanted),
        *_said("base", answers.base),
        *_said("adapter", answers.adapter),
    ]


def _said(who: str, text: str) -> list[str]:
    first, *rest = text.strip("\n").splitlines()[:SHOWN_LINES] or [""]
    return [f"    {who:<17} {first.strip()}", *(f"    {'':<17} {line}" for line in rest)]
