"""A report as a person reads it in the terminal: the verdict first, then suite by suite, then what is missing."""

from collections.abc import Iterator
from pathlib import Path

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import EvaluationReport, Finding, SuiteReport
from finetune.evaluate.notes import Level, notes
from finetune.evaluate.verdict import why_not_shown
from finetune.evaluate.wording import capital, figure, gap, headline, interval, probability
from finetune.terminal.output import printable, table

PARTS_SHOWN = 12
PART_HEADER = ("part", "base", "adapter", "difference", "95 % interval", "tasks", "verdict")
FINDING_HEADER = ("finding", "value", "95 % interval", "of", "limit", "")
OUTCOMES = {True: "within", False: "OVER", None: "not known"}


def report_text(report: EvaluationReport, *, page: Path | None = None) -> str:
    """All of a report but its rows; page is where the HTML page lies, None if there is none."""
    head = headline(report)
    lines = [f"{head.title}: {report.adapter_id} against {report.base.name}", "", head.found, head.basis]
    lines += [f"But: {text}" for text in head.against]
    for suite in report.suites:
        if suite.measured:
            lines += ["", f"{suite.suite}, {suite.num_tasks:,} tasks", *_suite(suite)]
    lines += ["", *_notes(report), "", f"It does not show {'; '.join(head.open)}."]
    if page is not None:
        lines += ["", f"By repository, wins and losses with the code, how it was made: {page}"]
    return "\n".join(_safe(line) for line in lines)


def _suite(suite: SuiteReport) -> Iterator[str]:
    whole = [score for score in suite.scores if not score.part]
    if whole:
        clusters = whole[0].clusters
        header = ("figure", "base", "adapter", "difference", "95 % interval", "tasks", clusters, "p", "verdict")
        yield table([_cells(score) for score in whole], header=header)
    parts = [score for score in suite.scores if score.part]
    if parts:
        yield ""
        yield table([_part(score) for score in parts[:PARTS_SHOWN]], header=PART_HEADER)
        if len(parts) > PARTS_SHOWN:
            yield f"  and {len(parts) - PARTS_SHOWN} more parts"
    if suite.findings:
        yield table([_finding(finding) for finding in suite.findings], header=FINDING_HEADER)
    for score in whole:
        if why := why_not_shown(score):
            yield f"  {capital(score.name)} is not shown: {why}."
    for reason in suite.left_out:
        yield f"  {reason.count:,} x {reason.reason}"


def _cells(score: Score) -> tuple[str, ...]:
    adjusted = score.adjusted_p_value if score.adjusted_p_value is not None else score.p_value
    return (
        score.name + (f" ({score.unit})" if score.unit not in ("", "share") else ""),
        figure(score.base, score.unit),
        figure(score.adapter, score.unit),
        gap(score.difference, score.unit),
        interval(score),
        f"{score.num_items:,}",
        f"{score.num_clusters:,}",
        probability(adjusted) or "-",
        score.verdict,
    )


def _part(score: Score) -> tuple[str, ...]:
    name, base, adapter, difference, edges, items, _, _, verdict = _cells(score)
    return (f"{name}, {score.part}", base, adapter, difference, edges, items, verdict)


def _finding(finding: Finding) -> tuple[str, ...]:
    low, high = figure(finding.low, finding.unit), figure(finding.high, finding.unit)
    return (
        finding.name,
        figure(finding.value, finding.unit),
        f"{low} to {high}",
        f"{finding.num_items:,}",
        "none" if finding.limit is None else figure(finding.limit, finding.unit),
        "" if finding.limit is None else OUTCOMES[finding.ok],
    )


def _notes(report: EvaluationReport) -> Iterator[str]:
    """What to know; what is good is in the tables already."""
    for note in notes(report):
        if note.level is Level.LOOK:
            yield f"- {note.text}"


def _safe(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
