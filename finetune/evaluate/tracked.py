"""A report as flat metrics, in groups by which runs compare in MLflow's table."""

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import EvaluationReport, SuiteName, SuiteReport

# whose figures stand directly under eval/: their names are those of the first version
UNGROUPED = frozenset({SuiteName.HELDOUT, SuiteName.INFILL})


def tracked_metrics(report: EvaluationReport) -> dict[str, float]:
    """eval/<score>_base, _adapter and _difference; other suites, intervals, parts and findings have own groups.

    A group is what stands before the last slash. Values keep the report's units: a share is 0 to 1.
    """
    values: dict[str, float] = {}
    for suite in report.suites:
        group = "eval" if suite.suite in UNGROUPED else f"eval/{suite.suite}"
        for score in suite.scores:
            values |= _part(score) if score.part else _whole(score, group)
        values |= _findings(suite, group)
    return values


def metric_key(name: str) -> str:
    """The name of a score or part as metrics have it: infill_exact_match."""
    return "".join(sign if sign.isalnum() else "_" for sign in name)


def _whole(score: Score, group: str) -> dict[str, float]:
    key = metric_key(score.name)
    return {
        f"{group}/{key}_base": score.base,
        f"{group}/{key}_adapter": score.adapter,
        f"{group}/{key}_difference": score.difference,
        f"eval/interval/{key}_difference_low": score.low,
        f"eval/interval/{key}_difference_high": score.high,
    }


def _part(score: Score) -> dict[str, float]:
    key = f"eval/by_part/{metric_key(score.name)}_{metric_key(score.part)}"
    return {f"{key}_base": score.base, f"{key}_adapter": score.adapter}


def _findings(suite: SuiteReport, group: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for finding in suite.findings:
        key = metric_key(finding.name)
        found[f"{group}/{key}"] = finding.value
        found |= {f"eval/interval/{key}_low": finding.low, f"eval/interval/{key}_high": finding.high}
    return found
