"""The gate: what an evaluation must have shown before an adapter goes live, and the reasons when it has not."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from finetune.contracts.dataset import Contract
from finetune.contracts.evaluation import EvaluationReport, SuiteName
from finetune.contracts.yaml_file import load_yaml_model

DEFAULT_GATE = Path(__file__).with_name("gate.yaml")
SECONDS_PER_DAY = 86_400
HINT = "The shipped gate and the reason of each value: finetune/release/gate.yaml."


class GateConfig(Contract):
    """What is asked; gate.yaml says why. suites must have been measured; max_age_days None: any age."""

    primary: Literal["better", "no worse"]
    min_tasks: int = Field(ge=1)
    min_clusters: int = Field(ge=1)
    suites: tuple[SuiteName, ...]
    retention: bool
    required_findings: tuple[str, ...]
    served: bool
    max_age_days: float | None = Field(gt=0)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the gate says no: the figure of a suite ("" of the report), what it was, and what was asked."""

    suite: str
    figure: str
    value: str
    limit: str

    def __str__(self) -> str:
        where = f"{self.suite}: " if self.suite else ""
        return f"{where}{self.figure} is {self.value}; the gate asks for {self.limit}"


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """reasons: all that speaks against it. warnings: what could not be judged and is not asked for."""

    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


def load_gate(path: Path | None) -> GateConfig:
    """The gate in a file, None: the shipped one. Raises RecipeError with file and line of every mistake."""
    return load_yaml_model(path or DEFAULT_GATE, GateConfig, hint=HINT)


def judge(report: EvaluationReport, gate: GateConfig, *, now: float | None = None) -> GateVerdict:
    """Hold a report against a gate; now is in seconds since 1970, None: the clock's."""
    age = ((time.time() if now is None else now) - report.created_at) / SECONDS_PER_DAY
    reasons = [*_primary(report, gate), *_suites(report, gate), *_retention(report, gate)]
    if gate.served and not report.engine.served:
        reasons.append(Reason("", "the engine", f"{report.engine.name}, which does not serve", "the one that serves"))
    if gate.max_age_days is not None and age > gate.max_age_days:
        reasons.append(Reason("", "the report's age", f"{age:.1f} days", f"{gate.max_age_days:g} days at most"))
    unknown = list(_unknown_findings(report))
    asked = [any(word in reason.figure for word in gate.required_findings) for reason in unknown]
    reasons += [*_bad_findings(report), *(reason for reason, hard in zip(unknown, asked, strict=True) if hard)]
    warnings = tuple(reason for reason, hard in zip(unknown, asked, strict=True) if not hard)
    return GateVerdict(tuple(reasons), warnings)


def _primary(report: EvaluationReport, gate: GateConfig) -> Iterator[Reason]:
    if not report.scores:
        yield Reason("", "the primary figure", "not there", gate.primary)
        return
    score = report.scores[0]
    suite = next(suite.suite.value for suite in report.suites if suite.scores)
    allowed = {"better"} if gate.primary == "better" else {"better", "no worse"}
    if score.verdict not in allowed:
        found = f"{score.verdict} ({score.difference:+.4g} {score.unit}, {score.low:+.4g} to {score.high:+.4g})"
        yield Reason(suite, score.name, found, gate.primary)
    if score.num_items < gate.min_tasks:
        yield Reason(suite, f"the number of tasks of {score.name}", str(score.num_items), f"{gate.min_tasks} at least")
    if score.num_clusters < gate.min_clusters:
        figure = f"the number of {score.clusters} of {score.name}"
        yield Reason(suite, figure, str(score.num_clusters), f"{gate.min_clusters} at least")


def _suites(report: EvaluationReport, gate: GateConfig) -> Iterator[Reason]:
    for name in gate.suites:
        found = report.suite(name)
        if found is None or not found.measured:
            why = found.reason if found else "not asked for at the evaluation"
            yield Reason(name.value, "the suite", f"not measured ({why})", "a measured one")


def _retention(report: EvaluationReport, gate: GateConfig) -> Iterator[Reason]:
    found = report.suite(SuiteName.RETENTION)
    for score in found.scores if found and gate.retention else ():
        if score.margin is not None and not score.part and score.verdict not in ("better", "no worse"):
            value = f"{score.verdict} ({score.difference:+.4g} {score.unit})"
            yield Reason("retention", score.name, value, f"no worse by a margin of {score.margin:g}")


def _bad_findings(report: EvaluationReport) -> Iterator[Reason]:
    for suite in report.suites:
        for finding in suite.findings:
            if finding.ok is False:
                limit = "ok" if finding.limit is None else f"{finding.limit:g} {finding.unit}".strip()
                yield Reason(suite.suite.value, finding.name, f"{finding.value:g} {finding.unit}".strip(), limit)


def _unknown_findings(report: EvaluationReport) -> Iterator[Reason]:
    for suite in report.suites:
        for finding in suite.findings:
            if finding.ok is None and (finding.limit is not None or not finding.num_items):
                yield Reason(suite.suite.value, finding.name, f"not known ({finding.text})", "a measured one")
