"""Intervals as numbers: the template draws each as a line in a box of fixed size, without a script."""

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import Finding
from finetune.evaluate.wording import change, direction_of, figure, gap, toward_better

WIDTH = 200.0
MIDDLE = WIDTH / 2
# the widest line ends this far from the edge
EDGE = 8.0
SMALLEST_REACH = 1e-9


@dataclass(frozen=True, slots=True)
class Line:
    """A difference with its interval in a box WIDTH wide, better to the right; margin None: nothing but 0 is drawn.

    label says in words what is drawn.
    """

    verdict: str
    point: float
    low: float
    high: float
    margin: float | None
    label: str


@dataclass(frozen=True, slots=True)
class Gauge:
    """A finding in a box WIDTH wide that begins at 0; limit None: nothing is asked."""

    point: float
    low: float
    high: float
    limit: float | None
    label: str


def lines(scores: Sequence[Score]) -> tuple[Line, ...]:
    """Scores on one scale, which must be of one figure."""
    reach = max((_reach(score) for score in scores), default=SMALLEST_REACH)
    return tuple(_line(score, reach) for score in scores)


def gauge(finding: Finding) -> Gauge:
    """A finding against its limit."""
    most = max(finding.high, finding.value, finding.limit or 0.0, SMALLEST_REACH)

    def place(value: float) -> float:
        return round(EDGE + (WIDTH - 2 * EDGE) * max(0.0, value) / most, 1)

    limit = "" if finding.limit is None else f", limit {figure(finding.limit, finding.unit)}"
    low, high = figure(finding.low, finding.unit), figure(finding.high, finding.unit)
    return Gauge(
        point=place(finding.value),
        low=place(finding.low),
        high=place(finding.high),
        limit=None if finding.limit is None else place(finding.limit),
        label=f"{figure(finding.value, finding.unit)}, 95 % interval {low} to {high}{limit}",
    )


def _line(score: Score, reach: float) -> Line:
    def place(value: float) -> float:
        return round(MIDDLE + (MIDDLE - EDGE) * toward_better(score, value) / reach, 1)

    edges = sorted((place(score.low), place(score.high)))
    margin = _margin(score)
    asked = "" if score.margin is None else f", margin {gap(score.margin, score.unit).lstrip('+')}"
    return Line(
        verdict=score.verdict,
        point=place(score.difference),
        low=edges[0],
        high=edges[1],
        margin=None if margin is None else place(margin),
        label=f"{score.name} {score.part}: {change(score)}{asked}, {direction_of(score)}: {score.verdict}",
    )


def _margin(score: Score) -> float | None:
    """The difference that is still no worse, with its sign."""
    return None if score.margin is None else toward_better(score, -score.margin)


def _reach(score: Score) -> float:
    return max(abs(score.low), abs(score.high), abs(score.difference), score.margin or 0.0, SMALLEST_REACH)
