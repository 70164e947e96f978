"""Paired bootstrap over clusters: the interval of a difference between two models, and what it allows to say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

Verdict = Literal["better", "not shown", "worse"]
Direction = Literal["lower is better", "higher is better"]
CONFIDENCE = 0.95
# Below six clusters even unanimous signs are no 5 % event: 2 x 0.5^5 = 0.0625 (sign test).
MIN_CLUSTERS = 6
BLOCK_RESAMPLES = 256


@dataclass(frozen=True)
class PairedRows:
    """What both models did on the same rows, all of shape (rows,).

    A figure is sum(base) / sum(size): summed bits over bytes, or, with every size 1, a mean over rows. clusters names
    the cluster of each row; rows of one cluster are not independent, for example those of one file.
    """

    base: Sequence[float]
    adapter: Sequence[float]
    size: Sequence[float]
    clusters: Sequence[str]


@dataclass(frozen=True)
class Comparison:
    """Both figures, difference = adapter - base, its 95 % interval, and the verdict."""

    base: float
    adapter: float
    difference: float
    low: float
    high: float
    num_items: int
    num_clusters: int
    verdict: Verdict


def compare(rows: PairedRows, direction: Direction, *, resamples: int, seed: int) -> Comparison:
    """Bootstrap the difference of the two figures over whole clusters; the same seed gives the same interval.

    The interval is the expanded percentile interval of Hesterberg, "What Teachers Should Know about the Bootstrap"
    (arXiv 1411.5279, section 5.3): the percentiles lie further out the fewer clusters there are, as Student's t does.
    There must be at least one row, and some size above 0. One cluster has no interval: low and high are the difference.
    """
    sums = cluster_sums(rows)
    base, adapter, size = (float(total) for total in sums.sum(axis=0))
    num_clusters = len(sums)
    difference = (adapter - base) / size
    if num_clusters < 2:
        low = high = difference
    else:
        tail = tail_share(num_clusters)
        drawn = bootstrap_differences(sums, resamples=resamples, seed=seed)
        low, high = (float(value) for value in np.quantile(drawn, [tail, 1 - tail]))
    return Comparison(
        base=base / size,
        adapter=adapter / size,
        difference=difference,
        low=low,
        high=high,
        num_items=len(rows.base),
        num_clusters=num_clusters,
        verdict=verdict(low, high, direction, num_clusters=num_clusters),
    )


def verdict(low: float, high: float, direction: Direction, *, num_clusters: int) -> Verdict:
    """What the interval of adapter - base allows to say: nothing while it holds 0 or rests on too few clusters."""
    if num_clusters < MIN_CLUSTERS or low <= 0.0 <= high:
        return "not shown"
    return "better" if (high < 0.0) == (direction == "lower is better") else "worse"


def cluster_sums(rows: PairedRows) -> np.ndarray:
    """(clusters, 3): base, adapter and size summed within each cluster, in order of the clusters' names."""
    names, places = np.unique(np.asarray(rows.clusters, dtype=str), return_inverse=True)
    columns = [np.bincount(places, weights=column, minlength=len(names)) for column in _columns(rows)]
    return np.stack(columns, axis=1)


def _columns(rows: PairedRows) -> list[np.ndarray]:
    return [np.asarray(column, dtype=np.float64) for column in (rows.base, rows.adapter, rows.size)]


def bootstrap_differences(sums: np.ndarray, *, resamples: int, seed: int) -> np.ndarray:
    """(resamples,) differences, each over as many clusters as there are, drawn with replacement."""
    generator = np.random.default_rng(seed)
    num_clusters = len(sums)
    shares = np.full(num_clusters, 1.0 / num_clusters)
    out = []
    for start in range(0, resamples, BLOCK_RESAMPLES):
        counts = generator.multinomial(num_clusters, shares, size=min(BLOCK_RESAMPLES, resamples - start))
        base, adapter, size = (counts @ sums).T
        # a draw of clusters that hold nothing says nothing
        out.append(np.divide(adapter - base, size, out=np.zeros_like(size), where=size > 0))
    return np.concatenate(out)


def tail_share(num_clusters: int) -> float:
    """Share of resamples to cut off at each end for a 95 % interval: 0.025 for many clusters, less for few."""
    expansion = math.sqrt(num_clusters / (num_clusters - 1))
    return NormalDist().cdf(-expansion * student_quantile((1 + CONFIDENCE) / 2, num_clusters - 1))


def student_quantile(share: float, degrees: int) -> float:
    """Quantile of Student's t, by bisection over its distribution function."""
    low, high = -1e3, 1e3
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_share(middle, degrees) < share else (low, middle)
    return (low + high) / 2


def student_share(value: float, degrees: int) -> float:
    """P(T <= value) for Student's t of whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(value / math.sqrt(degrees))
    cosine_squared = math.cos(angle) ** 2
    if degrees % 2:
        total, term = 0.0, math.cos(angle)
        for order in range(1, degrees - 1, 2):
            total += term
            term *= cosine_squared * (order + 1) / (order + 2)
        return 0.5 + (angle + math.sin(angle) * total) / math.pi
    total, term = 0.0, 1.0
    for order in range(0, degrees - 1, 2):
        total += term
        term *= cosine_squared * (order + 1) / (order + 2)
    return 0.5 + math.sin(angle) * total / 2
