"""What mining tells a person."""

from pathlib import Path

from data_pipelines.benchmark.mining import Mined
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
    if mined.infrastructure:
        lines.append(f"{mined.infrastructure:,} could not be tested; the same command again tries them again.")
    rows = [[one.stage, printable(one.reason), f"{one.count:,}"] for one in mined.suite.left_out]
    if rows:
        lines += ["", "Left out:", table(rows, header=("stage", "reason", "count"))]
    return "\n".join(lines)
