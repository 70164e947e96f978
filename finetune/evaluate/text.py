"""An evaluation as a person reads it in a terminal."""

from finetune.contracts.evaluation import EvaluationReport
from finetune.evaluate.verdict import why_not_shown
from finetune.terminal.output import table


def report_text(report: EvaluationReport) -> str:
    """The verdict, then a table of all scores, then what the figures over all tasks lack, and what was left out."""
    rows = [
        (
            (f"{score.name}, {score.part}" if score.part else score.name) + (f" ({score.unit})" if score.unit else ""),
            f"{score.base:.3f}",
            f"{score.adapter:.3f}",
            f"{score.difference:+.3f}",
            f"{score.low:+.3f} to {score.high:+.3f}",
            f"{score.num_items:,}",
            f"{score.num_clusters:,} {score.clusters}",
            score.verdict + (f" ({score.margin:g})" if score.verdict == "no worse" else ""),
        )
        for score in report.scores
    ]
    header = ("held-out figure", "base", "adapter", "difference", "95 % interval", "tasks", "drawn", "verdict")
    lines = [f"{report.adapter_id} against {report.base.name}: {report.verdict}", "", table(rows, header=header)]
    lines += [f"  {score.name}: {why}" for score in report.scores if not score.part and (why := why_not_shown(score))]
    for suite in report.suites:
        lines += [f"  {count.count:,} x {count.reason}" for count in suite.left_out]
        lines += [f"  {suite.suite.value} was not measured: {suite.reason}"] if suite.reason else []
    return "\n".join(lines)
