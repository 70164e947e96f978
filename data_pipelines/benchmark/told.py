"""What mining tells a person."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipelines.benchmark.commit_mining import MinedCommits
from data_pipelines.benchmark.layouts.export import ExportNote
from data_pipelines.benchmark.mining import Mined
from finetune.contracts.dataset import ReasonCount
from finetune.terminal.output import printable, table


def mined_text(out: Path, mined: Mined) -> str:
    """How many tasks, and what of the repository became none and why."""
    lines = [
        f"{mined.suite.num_tasks:,} tasks of {mined.num_functions:,} functions are in {out}.",
        f"Judged now: {mined.screened:,}; judged before: {mined.kept_from_before:,}; {mined.minutes:.1f} minutes.",
    ]
    if mined.tested:
        minutes = max(mined.screening_minutes, 1e-3)
        lines.append(
            f"Screening alone took {minutes:.1f} minutes, {mined.screened / minutes:,.0f} functions a minute; "
            f"{mined.tested:,} of them took test runs, {mined.tested / minutes:,.0f} a minute."
        )
    if mined.suite.labels_of:
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(mined.labels.items()))
        lines.append(f"What training on that dataset knew of them: {told}.")
    elif mined.suite.num_tasks:
        lines.append("Not labelled: an evaluation cannot tell what training saw. Name the dataset with --dataset.")
    return "\n".join([*lines, *_left_out(mined.suite.left_out, mined.infrastructure)])


def mined_document(out: Path, mined: Mined) -> dict[str, Any]:
    """The same for a program."""
    return {
        "path": str(out),
        "labels": dict(mined.labels),
        "functions": mined.num_functions,
        "screened": mined.screened,
        "kept_from_before": mined.kept_from_before,
        "tested": mined.tested,
        "screening_minutes": round(mined.screening_minutes, 2),
        "minutes": round(mined.minutes, 2),
        **mined.suite.model_dump(mode="json"),
    }


def commits_text(out: Path, mined: MinedCommits) -> str:
    """The same of commits."""
    lines = [
        f"{mined.suite.num_tasks:,} tasks of {mined.num_commits:,} commits are in {out};"
        f" {mined.num_candidates:,} change source and tests and state a request.",
        f"Judged now: {mined.judged:,}; judged before: {mined.kept_from_before:,}; {mined.minutes:.1f} minutes.",
    ]
    return "\n".join([*lines, *_left_out(mined.suite.left_out, mined.infrastructure)])


def commits_document(out: Path, mined: MinedCommits) -> dict[str, Any]:
    """The same for a program."""
    return {
        "path": str(out),
        "commits": mined.num_commits,
        "candidates": mined.num_candidates,
        "screened": mined.judged,
        "kept_from_before": mined.kept_from_before,
        "minutes": round(mined.minutes, 2),
        **mined.suite.model_dump(mode="json"),
    }


def exported_text(out: Path, note: ExportNote) -> str:
    """What was written, and what it needs to run."""
    lines = [
        f"{note.num_tasks:,} tasks in the layout of {note.layout} are in {out}.",
        f"Their images start from {note.image}: an image of yours in which the repository's tests run.",
    ]
    return "\n".join([*lines, *_left_out(note.left_out, 0)])


def _left_out(left_out: Sequence[ReasonCount], infrastructure: int) -> list[str]:
    lines = []
    if infrastructure:
        lines.append(f"{infrastructure:,} could not be tested; the same command again tries them again.")
    rows = [[one.stage, printable(one.reason), f"{one.count:,}"] for one in left_out]
    return [*lines, "", "Left out:", table(rows, header=("stage", "reason", "count"))] if rows else lines
