"""A report as flat metrics and tags, in groups by which runs compare on MLflow's pages."""

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import EvaluationReport, SuiteName, SuiteReport

SHOWN_DIGITS = 12
# whose figures stand directly under eval/: their names are those of the first version
UNGROUPED = frozenset({SuiteName.HELDOUT, SuiteName.INFILL})


def tracked_metrics(report: EvaluationReport) -> dict[str, float]:
    """eval/<score>_base, _adapter and _difference; other suites have groups under eval/, and so have their findings.

    A group is what stands before the last slash. Pages sort by name; intervals and parts are called so that they
    come after all figures. Values keep the report's units: a share is 0 to 1.
    """
    values: dict[str, float] = {}
    for suite in report.suites:
        group = "eval" if suite.suite in UNGROUPED else f"eval/{suite.suite}"
        for score in suite.scores:
            values |= _part(score) if score.part else _whole(score, group)
        values |= _findings(suite, group)
    return values


def evaluation_tags(report: EvaluationReport) -> dict[str, str]:
    """What two evaluations must share for their figures to be compared: asked of the same tasks, by the same engine.

    A suite that was not measured says why, so that a missing figure explains itself.
    """
    engine = report.engine
    tags = {
        "verdict": report.verdict,
        "evaluation.dataset": report.dataset_digest[:SHOWN_DIGITS],
        "evaluation.engine": f"{engine.name}, {engine.quantization}, {engine.device}",
        "evaluation.settings": report.settings,
    }
    for suite in report.suites:
        asked = f"{suite.num_tasks:,} tasks, digest {suite.tasks_digest[:SHOWN_DIGITS]}"
        tags[f"evaluation.tasks.{suite.suite}"] = asked if suite.measured else f"not measured: {suite.reason}"
    return tags


def metric_key(name: str) -> str:
    """The name of a score or part as metrics have it: infill_exact_match."""
    return "_".join("".join(sign if sign.isalnum() else " " for sign in name).split())


def _whole(score: Score, group: str) -> dict[str, float]:
    key = metric_key(score.name)
    return {
        f"{group}/{key}_base": score.base,
        f"{group}/{key}_adapter": score.adapter,
        f"{group}/{key}_difference": score.difference,
        f"eval_interval/{key}_difference_low": score.low,
        f"eval_interval/{key}_difference_high": score.high,
    }


def _part(score: Score) -> dict[str, float]:
    key = f"eval_parts/{metric_key(score.name)}_{metric_key(score.part)}"
    return {f"{key}_base": score.base, f"{key}_adapter": score.adapter}


def _findings(suite: SuiteReport, group: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for finding in suite.findings:
        key = metric_key(finding.name)
        found[f"{group}/{key}"] = finding.value
        found |= {f"eval_interval/{key}_low": finding.low, f"eval_interval/{key}_high": finding.high}
    return found
