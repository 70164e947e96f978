"""What a reader of a report should know first: sentences with a level each, the worst first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import EvaluationReport, SuiteName
from finetune.evaluate.wording import (
    against,
    capital,
    change,
    cluster_noun,
    counted,
    failed,
    figure,
    needed,
    unasked,
    unmeasured,
)

# below six clusters no verdict is possible: finetune/evaluate/stats.py
FEW_CLUSTERS = 6
# a quarter of the tasks passed over is no detail any more
LARGE_SHARE = 0.25
NAMED = 3


class Level(StrEnum):
    """GOOD: as it should be. LOOK: a person should know it. BAD: it speaks against the adapter."""

    GOOD = "good"
    LOOK = "look"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence; anchor is the section of the page that shows the evidence."""

    level: Level
    text: str
    anchor: str


def notes(report: EvaluationReport) -> tuple[Note, ...]:
    """All notes, the worst first."""
    found = [
        *(Note(Level.BAD, text, "figures") for text in against(report)),
        *_primary(report.scores[:1]),
        *_control(report),
        *_parts(report.scores),
        *_findings(report),
        *_missing(report),
        *_left_out(report),
        *_secondary(report.scores[1:]),
        *_engine(report),
    ]
    order = [Level.BAD, Level.LOOK, Level.GOOD]
    return tuple(sorted(found, key=lambda note: order.index(note.level)))


def _primary(scores: Sequence[Score]) -> Iterator[Note]:
    for score in scores:
        if score.num_clusters >= FEW_CLUSTERS:
            continue
        places = counted(score.num_clusters, cluster_noun(score))
        yield Note(
            Level.LOOK, f"The verdict rests on {places}: below {FEW_CLUSTERS} nothing can be shown at all.", "figures"
        )


def _control(report: EvaluationReport) -> Iterator[Note]:
    suite = report.suite(SuiteName.CONTROL)
    if suite is None or not suite.scores:
        return
    score = suite.scores[0]
    if score.verdict == "better":
        text = "Context in the prompt does not close the gap: the adapter without it beats the base with it"
        yield Note(Level.GOOD, f"{text}: {score.name} {change(score)}.", "suite-control")
    else:
        closes = "alone closes the gap" if score.verdict == "worse" else "may close the gap as well"
        text = f"Context in the prompt {closes}: against the base that reads the repository, the adapter is"
        shown = {"worse": "worse", "no worse": "no worse"}.get(score.verdict, "not shown to be better")
        yield Note(Level.LOOK, f"{text} {shown}: {score.name} {change(score)}.", "suite-control")


def _parts(scores: Sequence[Score]) -> Iterator[Note]:
    worse = [score for score in scores if score.part and score.verdict == "worse"]
    if worse:
        total = sum(bool(score.part) for score in scores)
        names = [f"{score.name} of {score.part}" for score in worse]
        yield Note(
            Level.LOOK, f"Worse in {len(worse):,} of {counted(total, 'part')} of the figures: {_some(names)}.", "parts"
        )


def _findings(report: EvaluationReport) -> Iterator[Note]:
    found = [finding for suite in report.suites for finding in suite.findings]
    for finding in found:
        if finding.ok is None and finding.limit is not None:
            why = finding.text or "the data do not allow to say."
            yield Note(
                Level.LOOK, f"{capital(finding.name)}: not known whether it is within its limit; {why}", "findings"
            )
    held = [finding for finding in found if finding.ok]
    if held and not any(map(failed, found)):
        names = [f"{finding.name} {figure(finding.value, finding.unit)}" for finding in held]
        yield Note(Level.GOOD, f"Within its limit: {_some(names)}.", "findings")


def _missing(report: EvaluationReport) -> Iterator[Note]:
    for suite in unmeasured(report):
        yield Note(Level.LOOK, f"{capital(suite.suite)} was not measured. {suite.reason}", "missing")
    if names := unasked(report):
        yield Note(Level.LOOK, f"Not asked for: {', '.join(names)}.", "missing")


def _left_out(report: EvaluationReport) -> Iterator[Note]:
    for suite in report.suites:
        lost = sum(reason.count for reason in suite.left_out)
        if lost > LARGE_SHARE * (suite.num_tasks + lost):
            text = f"{capital(suite.suite)}: {counted(lost, 'task')} passed over, beside {suite.num_tasks:,} measured."
            yield Note(Level.LOOK, text, "left-out")


def _secondary(scores: Sequence[Score]) -> Iterator[Note]:
    whole = [score for score in scores if not score.part]
    for verdict, level in (("not shown", Level.LOOK), ("better", Level.GOOD), ("no worse", Level.GOOD)):
        names = [
            f"{score.name} {change(score)}" + (f", {needed(score)}" if needed(score) else "")
            for score in whole
            if score.verdict == verdict
        ]
        if names:
            yield Note(level, f"{capital(verdict)}: {'; '.join(names)}.", "figures")


def _engine(report: EvaluationReport) -> Iterator[Note]:
    engine = report.engine
    how = f"{engine.name}, base held as {engine.quantization}, on {engine.device}"
    if engine.served:
        yield Note(Level.GOOD, f"Measured through what serves the adapter: {how}.", "made")
    else:
        yield Note(Level.LOOK, f"Not measured through what serves the adapter, but through {how}.", "made")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
