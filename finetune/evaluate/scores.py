"""Scores of an evaluation: a pure function of its rows, so that they can be computed again by whoever doubts them."""

from collections.abc import Sequence

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import PairedRow
from finetune.evaluate.metric import Metric
from finetune.evaluate.stats import PairedRows, compare


def scores_of(rows: Sequence[PairedRow], metrics: Sequence[Metric], *, resamples: int, seed: int) -> tuple[Score, ...]:
    """The scores of metrics that have rows, the primary one first, then those of their parts."""
    ordered = sorted(metrics, key=lambda metric: not metric.primary)
    scores = [_score(metric, [row for row in rows if row.metric == metric.name], resamples, seed) for metric in ordered]
    return tuple(score for score in scores if score is not None)


def _score(metric: Metric, rows: Sequence[PairedRow], resamples: int, seed: int) -> Score | None:
    if not rows:
        return None
    paired = PairedRows(
        base=[row.base for row in rows],
        adapter=[row.adapter for row in rows],
        size=[row.size for row in rows],
        clusters=[row.cluster for row in rows],
    )
    found = compare(paired, metric.direction, resamples=resamples, seed=seed)
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
        verdict=found.verdict,
    )
