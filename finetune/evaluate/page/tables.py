"""Tables of the page: figures, their parts, single tasks, who solved what, what was left out, what it took."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from markupsafe import Markup

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import Finding, PairedRow, SuiteReport
from finetune.evaluate.page.forest import Gauge, Line, gauge, lines
from finetune.evaluate.wording import (
    capital,
    direction_of,
    figure,
    gap,
    interval,
    needed,
    probability,
    toward_better,
)
from finetune.pages.text import name

By: TypeAlias = Literal["repo", "language", "group", "slice"]
HEADS: dict[By, str] = {"repo": "repository", "language": "language", "slice": "slice", "group": "kind of task"}
NAMELESS = "not known"
# what finetune/evaluate/scores.py calls a part whose column is empty
UNNAMED = "unnamed"
MAX_PARTS = 40
MAX_TASKS = 100


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """A score in words. line is its interval as a drawing, None where there is none; label what it is of.

    cluster_head says what clusters counts.
    """

    name: str
    label: Markup
    unit: str
    base: str
    adapter: str
    difference: str
    interval: str
    tasks: int
    clusters: int | None
    cluster_head: str
    p_value: str
    adjusted: str
    verdict: str
    needed: str
    direction: str
    line: Line | None


@dataclass(frozen=True, slots=True)
class Parts:
    """One figure told apart by one column; hidden counts the parts with the fewest tasks, which are not shown."""

    head: str
    score: str
    shown: tuple[ScoreLine, ...]
    hidden: int
    with_intervals: bool


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One task by the first figure of its suite."""

    place: Markup
    kind: Markup
    slice: Markup
    base: str
    adapter: str
    difference: str
    ahead: Literal["adapter", "base", "equal"]


@dataclass(frozen=True, slots=True)
class Tasks:
    """Tasks of a suite, those that differ most first; total counts all."""

    score: str
    shown: tuple[TaskLine, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Who solved how many tasks, by a figure that is 0 or 1."""

    score: str
    both: int
    adapter_only: int
    base_only: int
    neither: int

    @property
    def total(self) -> int:
        """All tasks."""
        return self.both + self.adapter_only + self.base_only + self.neither


@dataclass(frozen=True, slots=True)
class FindingLine:
    """A finding in words, and as a drawing."""

    label: Markup
    value: str
    interval: str
    items: int
    limit: str
    ok: bool | None
    text: Markup
    gauge: Gauge


def whole(suite: SuiteReport) -> tuple[ScoreLine, ...]:
    """The figures of a suite over all its tasks, each drawn on a scale of its own."""
    scores = [score for score in suite.scores if not score.part]
    return tuple(_score_line(score, lines([score])[0], label=capital(score.name)) for score in scores)


def parts(suite: SuiteReport, rows: Sequence[PairedRow]) -> tuple[Parts, ...]:
    """Each figure of a suite by repository, language, slice and kind: with intervals where the report has them.

    Where it has none the figures of both models are those of the rows. A column with one value tells nothing apart.
    """
    found = [
        table
        for by in HEADS
        for score in suite.scores
        if not score.part and (table := _parts(suite, score, rows, by)) is not None
    ]
    return tuple(found)


def tasks(suite: SuiteReport, rows: Sequence[PairedRow]) -> Tasks | None:
    """Tasks by the first figure of the suite; None where it has none."""
    if not suite.scores:
        return None
    score = suite.scores[0]
    own = [row for row in rows if row.metric == score.name]
    own.sort(key=lambda row: (-abs(row.adapter - row.base), row.task_id))
    return Tasks(capital(score.name), tuple(_task_line(row, score) for row in own[:MAX_TASKS]), len(own))


def outcomes(suite: SuiteReport, rows: Sequence[PairedRow]) -> tuple[Outcomes, ...]:
    """For each figure of a suite that is 0 or 1 at each task."""
    found = []
    for score in suite.scores:
        own = [row for row in rows if row.metric == score.name and not score.part]
        if own and all(row.size == 1 and {row.base, row.adapter} <= {0.0, 1.0} for row in own):
            count = Counter((row.base, row.adapter) for row in own)
            found.append(Outcomes(capital(score.name), count[1, 1], count[0, 1], count[1, 0], count[0, 0]))
    return tuple(found)


def findings(suite: SuiteReport) -> tuple[FindingLine, ...]:
    """Those that fail first."""
    ordered = sorted(suite.findings, key=lambda finding: {False: 0, None: 1, True: 2}[finding.ok])
    return tuple(map(_finding_line, ordered))


def _parts(suite: SuiteReport, score: Score, rows: Sequence[PairedRow], by: By) -> Parts | None:
    own: dict[str, list[PairedRow]] = defaultdict(list)
    for row in rows:
        if row.metric == score.name:
            own[getattr(row, by)].append(row)
    if len(own) < 2:
        return None
    scored = {part.part: part for part in suite.scores if part.name == score.name and _is_by(part, by, own)}
    if scored:
        ordered = sorted(scored.values(), key=lambda part: (-part.num_items, part.part))
        shown = ordered[:MAX_PARTS]
        drawn = zip(shown, lines(shown), strict=True)
        table = tuple(_score_line(part, line, label=part.part) for part, line in drawn)
        return Parts(HEADS[by], capital(score.name), table, len(ordered) - len(shown), True)
    names = sorted(own, key=lambda part: (-len(own[part]), part))
    table = tuple(_sums(own[part], score, part) for part in names[:MAX_PARTS])
    return Parts(HEADS[by], capital(score.name), table, max(0, len(names) - MAX_PARTS), False)


def _is_by(part: Score, by: By, own: dict[str, list[PairedRow]]) -> bool:
    """Whether part is a part by this column; in reports that do not say, it is one if the column has as many rows."""
    if part.by:
        return part.by == by
    value = part.part.removesuffix(f" ({by})")
    return bool(part.part) and len(own.get("" if value == UNNAMED else value, ())) == part.num_items


def _score_line(score: Score, line: Line | None, *, label: str) -> ScoreLine:
    return ScoreLine(
        name=capital(score.name),
        label=name(label or NAMELESS),
        unit=score.unit if score.unit != "share" else "",
        base=figure(score.base, score.unit),
        adapter=figure(score.adapter, score.unit),
        difference=gap(score.difference, score.unit),
        interval=interval(score),
        tasks=score.num_items,
        clusters=score.num_clusters,
        cluster_head=capital(score.clusters),
        p_value=probability(score.p_value),
        adjusted=probability(score.adjusted_p_value),
        verdict=score.verdict,
        needed=needed(score),
        direction=direction_of(score),
        line=line,
    )


def _sums(rows: Sequence[PairedRow], score: Score, part: str) -> ScoreLine:
    """A part without an interval: nothing can be said of it but what was measured."""
    size = sum(row.size for row in rows) or 1.0
    base, adapter = sum(row.base for row in rows) / size, sum(row.adapter for row in rows) / size
    return ScoreLine(
        name=capital(score.name),
        label=name(part or NAMELESS),
        unit=score.unit if score.unit != "share" else "",
        base=figure(base, score.unit),
        adapter=figure(adapter, score.unit),
        difference=gap(adapter - base, score.unit),
        interval="",
        tasks=len(rows),
        clusters=None,
        cluster_head="",
        p_value="",
        adjusted="",
        verdict="",
        needed="",
        direction=direction_of(score),
        line=None,
    )


def _task_line(row: PairedRow, score: Score) -> TaskLine:
    size = row.size or 1.0
    ahead = toward_better(score, row.adapter - row.base)
    return TaskLine(
        place=name(f"{row.repo}:{row.path}" if row.repo else row.path or row.task_id),
        kind=name(row.group),
        slice=name(row.slice),
        base=figure(row.base / size, score.unit),
        adapter=figure(row.adapter / size, score.unit),
        difference=gap((row.adapter - row.base) / size, score.unit),
        ahead="adapter" if ahead > 0 else "base" if ahead < 0 else "equal",
    )


def _finding_line(finding: Finding) -> FindingLine:
    low, high = figure(finding.low, finding.unit), figure(finding.high, finding.unit)
    return FindingLine(
        label=name(capital(finding.name)),
        value=figure(finding.value, finding.unit),
        interval=f"{low} to {high}",
        items=finding.num_items,
        limit="" if finding.limit is None else figure(finding.limit, finding.unit),
        ok=finding.ok,
        text=name(finding.text),
        gauge=gauge(finding),
    )


def left_out(suites: Sequence[SuiteReport]) -> Iterator[tuple[str, Markup, Markup, int, str]]:
    """(suite, stage, reason, count, share of what the suite could have had)."""
    for suite in suites:
        all_tasks = suite.num_tasks + sum(reason.count for reason in suite.left_out)
        for reason in sorted(suite.left_out, key=lambda reason: (-reason.count, reason.reason)):
            share = f"{100 * reason.count / all_tasks:.1f} %" if all_tasks else ""
            yield suite.suite, name(reason.stage), name(reason.reason), reason.count, share
