"""How far two models differ on the same tasks: interval, p-value and standard error, over whole clusters of tasks."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from finetune.evaluate.metric import Kind

LEVEL = 0.05
CONFIDENCE = 1 - LEVEL
# Below six clusters even unanimous signs are no 5 % event: 2 x 0.5^5 = 0.0625 (sign test).
MIN_CLUSTERS = 6
BLOCK_RESAMPLES = 256
BLOCK_FLIPS = 1_000
# The least p-value that drawn sign flips can give is 1 in 10,000; up to 13 clusters all flips are tried.
FLIPS = 9_999


@dataclass(frozen=True, slots=True)
class PairedRows:
    """What both models did on the same tasks, all of shape (tasks,).

    A figure is sum(base) / sum(size): summed bits over bytes, or, with every size 1, a mean over tasks. clusters names
    the cluster of each task; tasks of one cluster are not independent, for example those of one file.
    """

    base: Sequence[float]
    adapter: Sequence[float]
    size: Sequence[float]
    clusters: Sequence[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both figures, difference = adapter - base with its 95 % interval and its clustered standard error.

    p_value is that of no difference at all. discordant is the share of tasks at which one model passes and the other
    fails, None if tasks are not passed or failed.
    """

    base: float
    adapter: float
    difference: float
    low: float
    high: float
    standard_error: float
    p_value: float
    discordant: float | None
    num_items: int
    num_clusters: int


def compare(rows: PairedRows, kind: Kind, *, resamples: int, seed: int) -> Comparison:
    """Compare both models over whole clusters; the same rows and seed give the same result, bit for bit.

    ratio, mean: the interval is bootstrap_interval's, the p-value sign_flip_p's. pass or fail: the p-value is McNemar's
    exact one, and the interval is the wider, at each end, of the bootstrap's and paired_share_interval's: the first
    knows the clusters, the second that few or no changes seen do not mean none to come. There must be at least one row,
    and some size above 0; with one cluster the bootstrap has no width. Raises ValueError for a pass or fail that is
    neither 0 nor 1.
    """
    sums = cluster_sums(rows)
    base, adapter, size = (float(total) for total in sums.sum(axis=0))
    difference = (adapter - base) / size
    low, high = bootstrap_interval(sums, resamples=resamples, seed=seed)
    discordant = None
    if kind == "pass or fail":
        won, lost = changes(rows)
        num_tasks = len(rows.base)
        discordant = (won + lost) / num_tasks
        p_value = mcnemar_p(won, lost)
        exact_low, exact_high = paired_share_interval(won, lost, num_tasks)
        low, high = min(low, exact_low), max(high, exact_high)
    else:
        p_value = sign_flip_p(sums[:, 1] - sums[:, 0], seed=seed)
    return Comparison(
        base=base / size,
        adapter=adapter / size,
        difference=difference,
        low=low,
        high=high,
        standard_error=cluster_standard_error(sums),
        p_value=p_value,
        discordant=discordant,
        num_items=len(rows.base),
        num_clusters=len(sums),
    )


def cluster_sums(rows: PairedRows) -> np.ndarray:
    """(clusters, 3): base, adapter and size summed within each cluster, in order of the clusters' names."""
    names, places = np.unique(np.asarray(rows.clusters, dtype=str), return_inverse=True)
    columns = [np.bincount(places, weights=column, minlength=len(names)) for column in _columns(rows)]
    return np.stack(columns, axis=1)


def _columns(rows: PairedRows) -> list[np.ndarray]:
    return [np.asarray(column, dtype=np.float64) for column in (rows.base, rows.adapter, rows.size)]


def bootstrap_interval(sums: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float]:
    """The 95 % interval of the difference, sums (clusters, 3) as cluster_sums gives them.

    It is the expanded percentile interval of Hesterberg, "What Teachers Should Know about the Bootstrap" (arXiv
    1411.5279, section 5.3): the percentiles lie further out the fewer clusters there are, as Student's t does. One
    cluster has no interval: both ends are the difference.
    """
    num_clusters = len(sums)
    if num_clusters < 2:
        base, adapter, size = sums.sum(axis=0)
        return float((adapter - base) / size), float((adapter - base) / size)
    tail = tail_share(num_clusters)
    drawn = bootstrap_differences(sums, resamples=resamples, seed=seed)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


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
    return float(stats.norm.cdf(-expansion * stats.t.ppf((1 + CONFIDENCE) / 2, num_clusters - 1)))


def cluster_standard_error(sums: np.ndarray) -> float:
    """Standard error of the difference of two ratios, linearised, over clusters; 0 for one cluster.

    sqrt(G / (G - 1) x sum over clusters of (a - b - difference x size)^2) / sum of sizes: Miller, "Adding Error Bars to
    Evals" (arXiv 2411.00640, section 2.2), for sizes that are not all 1.
    """
    num_clusters, size = len(sums), sums[:, 2].sum()
    if num_clusters < 2:
        return 0.0
    change = sums[:, 1] - sums[:, 0]
    residual = change - change.sum() / size * sums[:, 2]
    return float(math.sqrt(num_clusters / (num_clusters - 1) * np.square(residual).sum()) / size)


def sign_flip_p(changes: np.ndarray, *, seed: int) -> float:
    """Two-sided p-value of no difference: how often swapping the models, cluster by cluster, gives as large a sum.

    changes (clusters,): adapter - base summed within each. If the adapter is as good as the base, each swap is as
    likely as what was seen, so the level holds with any number of clusters, as a p-value from bootstrap draws does not
    with few. Six clusters that agree give 2 / 2^6 = 0.031, the least there is. Unchanged clusters decide nothing.
    """
    moved = changes[changes != 0]
    exact = 2 ** len(moved) <= FLIPS
    flips = _all_flips(len(moved)) if exact else _drawn_flips(len(moved), seed)
    least = abs(moved.sum()) * (1 - 1e-9)  # sums of the same terms in another order differ in their last bits
    as_large, tried = 0, 0
    for block in flips:
        as_large += int((np.abs(moved.sum() - 2 * (block @ moved)) >= least).sum())
        tried += len(block)
    # what was seen is one of all flips, and is added to drawn ones (Phipson and Smyth, arXiv 1603.05766)
    return as_large / tried if exact else (as_large + 1) / (tried + 1)


def _all_flips(num_clusters: int) -> Iterator[np.ndarray]:
    """(2^clusters, clusters) in one block: 1 where base and adapter are swapped."""
    numbers = np.arange(2**num_clusters)[:, None]
    yield ((numbers >> np.arange(num_clusters)) & 1).astype(np.float64)


def _drawn_flips(num_clusters: int, seed: int) -> Iterator[np.ndarray]:
    """FLIPS rows, in blocks of (rows, clusters)."""
    generator = np.random.default_rng(seed)
    for start in range(0, FLIPS, BLOCK_FLIPS):
        size = (min(BLOCK_FLIPS, FLIPS - start), num_clusters)
        yield generator.integers(2, size=size, dtype=np.int8).astype(np.float64)


def changes(rows: PairedRows) -> tuple[int, int]:
    """Tasks that the adapter alone passes, and tasks that the base alone passes. Raises ValueError; see compare."""
    base, adapter, _ = _columns(rows)
    if not (np.isin(base, (0.0, 1.0)).all() and np.isin(adapter, (0.0, 1.0)).all()):
        raise ValueError("a task is passed, 1, or failed, 0")
    return int((adapter > base).sum()), int((adapter < base).sum())


def mcnemar_p(won: int, lost: int) -> float:
    """McNemar's exact two-sided p-value: changes one way and the other, were both as likely."""
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def paired_share_interval(won: int, lost: int, trials: int) -> tuple[float, float]:
    """95 % interval of the difference of two shares of the same tasks: the adjusted Wald interval for pairs.

    One change each way is added to what was seen (Bonett and Price, "Adjusted Wald Confidence Interval for a Difference
    of Binomial Proportions Based on Paired Data", 2012), so that it has a width where no task changed.
    """
    gained, given = (won + 1) / (trials + 2), (lost + 1) / (trials + 2)
    difference = gained - given
    reach = stats.norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt((gained + given - difference**2) / (trials + 2))
    return float(max(difference - reach, -1.0)), float(min(difference + reach, 1.0))


def share_interval(successes: int, trials: int) -> tuple[float, float]:
    """Clopper and Pearson's exact 95 % interval of a share; 0 to 1 if there was no trial."""
    if not trials:
        return 0.0, 1.0
    found = stats.binomtest(successes, trials).proportion_ci(confidence_level=CONFIDENCE, method="exact")
    return float(found.low), float(found.high)
