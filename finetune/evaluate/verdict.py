"""What a comparison allows to say, among as many others as there are."""

from collections.abc import Sequence
from typing import Literal

from finetune.contracts.adapter import Score
from finetune.evaluate.metric import Direction, Metric
from finetune.evaluate.sample_size import num_needed, num_needed_within
from finetune.evaluate.stats import LEVEL, MIN_CLUSTERS, Comparison

Verdict = Literal["better", "no worse", "not shown", "worse"]


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the order given: at most 5 % of them where even one wrong "shown" is to be a 5 % event.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (Scandinavian Journal of Statistics 6, 1979).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def verdict(found: Comparison, direction: Direction, *, p_value: float, margin: float | None) -> Verdict:
    """better or worse where interval and p_value, adjusted for a secondary figure, both say so.

    With a margin, a loss whose upper bound is below it is "no worse", even if some loss is shown. Nothing is shown on
    fewer than MIN_CLUSTERS clusters.
    """
    low, high = gain_interval(found, direction)
    if found.num_clusters < MIN_CLUSTERS:
        return "not shown"
    if p_value <= LEVEL and low > 0.0:
        return "better"
    if margin is not None and -low < margin:
        return "no worse"
    return "worse" if p_value <= LEVEL and high < 0.0 else "not shown"


def gain_interval(found: Comparison, direction: Direction) -> tuple[float, float]:
    """The interval of the difference, turned so that above 0 is good."""
    return (found.low, found.high) if direction == "higher is better" else (-found.high, -found.low)


def score_of(metric: Metric, found: Comparison, *, adjusted: float | None, num_compared: int) -> Score:
    """The score of all tasks by metric. adjusted is Holm's p-value among num_compared figures; None: it stands alone.

    num_needed of a figure among others is at 5 % / num_compared, which suffices whatever the others come to.
    """
    said = verdict(
        found,
        metric.direction,
        p_value=found.p_value if adjusted is None else adjusted,
        margin=metric.margin,
    )
    return Score(
        name=metric.name,
        unit=metric.unit,
        base=found.base,
        adapter=found.adapter,
        difference=found.difference,
        low=found.low,
        high=found.high,
        num_items=found.num_items,
        num_clusters=found.num_clusters,
        verdict=said,
        p_value=found.p_value,
        adjusted_p_value=adjusted,
        margin=metric.margin,
        direction=metric.direction,
        num_needed=_needed(metric, found, level=LEVEL / num_compared) if said == "not shown" else None,
    )


def _needed(metric: Metric, found: Comparison, *, level: float) -> int | None:
    if metric.margin is None:
        return num_needed(found, level=level)
    loss = -found.difference if metric.direction == "higher is better" else found.difference
    return num_needed_within(found, loss, margin=metric.margin)


def why_not_shown(score: Score) -> str:
    """What stands between score and a verdict, for people; "" where there is one."""
    if score.verdict != "not shown":
        return ""
    if score.num_clusters < MIN_CLUSTERS:
        return f"rests on {score.num_clusters} of the {MIN_CLUSTERS} {score.clusters} that any verdict takes"
    if score.num_needed is not None:
        goal = "this difference" if score.margin is None else f"a loss below {score.margin:g}"
        return f"about {score.num_needed:,} tasks would show {goal}; there are {score.num_items:,}"
    return "both came to the same" if score.margin is None else f"the loss is not below {score.margin:g}"
