"""The interval: known answers, how often it holds the truth, and which verdict follows."""

import math

import numpy as np
import pytest

from finetune.evaluate.stats import (
    MIN_CLUSTERS,
    Comparison,
    PairedRows,
    bootstrap_differences,
    cluster_sums,
    compare,
    student_quantile,
    tail_share,
    verdict,
)


def paired(base: np.ndarray, adapter: np.ndarray, clusters: list[str]) -> PairedRows:
    return PairedRows(base=list(base), adapter=list(adapter), size=[1.0] * len(base), clusters=clusters)


def run(rows: PairedRows) -> Comparison:
    return compare(rows, "lower is better", resamples=1000, seed=0)


def test_a_figure_is_a_sum_over_sizes_and_not_a_mean_of_ratios() -> None:
    rows = PairedRows(base=[10.0, 2.0], adapter=[5.0, 1.0], size=[2.0, 4.0], clusters=["a", "b"])
    found = run(rows)
    assert (found.base, found.adapter, found.difference) == (2.0, 1.0, -1.0)


def test_a_constant_difference_has_an_interval_of_no_width() -> None:
    base = np.arange(20.0)
    found = run(paired(base, base - 0.5, [str(place) for place in range(20)]))
    assert (found.low, found.high) == pytest.approx((-0.5, -0.5))
    assert found.verdict == "better"


def test_equal_models_show_nothing() -> None:
    base = np.arange(20.0)
    found = run(paired(base, base, [str(place) for place in range(20)]))
    assert (found.low, found.high, found.verdict) == (0.0, 0.0, "not shown")


def test_rows_of_a_cluster_are_summed_together() -> None:
    rows = PairedRows(base=[1.0, 2.0, 4.0], adapter=[1.0, 1.0, 1.0], size=[1.0, 2.0, 3.0], clusters=["b", "a", "b"])
    assert cluster_sums(rows).tolist() == [[2.0, 1.0, 2.0], [5.0, 2.0, 4.0]]


def test_the_bootstrap_has_the_spread_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=400)
    rows = paired(np.zeros(400), values, [str(place) for place in range(400)])
    drawn = bootstrap_differences(cluster_sums(rows), resamples=4000, seed=0)
    assert drawn.std() == pytest.approx(values.std() / math.sqrt(400), rel=0.05)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.01)


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not() -> None:
    values = np.random.default_rng(0).normal(size=30)
    rows = paired(np.zeros(30), values, [str(place) for place in range(30)])
    intervals = [compare(rows, "lower is better", resamples=500, seed=seed) for seed in (3, 3, 4)]
    assert intervals[0] == intervals[1] != intervals[2]


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (2, 4.3027), (5, 2.5706), (9, 2.2622), (30, 2.0423), (1000, 1.9623)]
)
def test_student_quantiles_are_those_of_the_tables(degrees: int, expected: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(expected, abs=5e-5)


def test_few_clusters_are_cut_further_out() -> None:
    assert tail_share(6) < tail_share(20) < tail_share(1000) < 0.025
    assert tail_share(100_000) == pytest.approx(0.025, abs=1e-4)


def covers(generator: np.random.Generator, *, num_clusters: int, per_cluster: int, naive: bool) -> bool:
    truth = -0.1
    shared = np.repeat(generator.normal(size=num_clusters), per_cluster)
    change = truth + shared + 0.3 * generator.normal(size=num_clusters * per_cluster)
    places = np.arange(num_clusters * per_cluster)
    names = places if naive else places // per_cluster
    found = compare(
        paired(np.zeros(len(change)), change, [str(name) for name in names]), "lower is better", resamples=400, seed=0
    )
    return found.low <= truth <= found.high


@pytest.mark.parametrize("num_clusters", [8, 30])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(num_clusters: int) -> None:
    generator = np.random.default_rng(7)
    held = [covers(generator, num_clusters=num_clusters, per_cluster=5, naive=False) for _ in range(400)]
    assert 0.92 <= np.mean(held) <= 0.98


def test_rows_taken_as_independent_would_promise_too_much() -> None:
    generator = np.random.default_rng(7)
    held = [covers(generator, num_clusters=30, per_cluster=5, naive=True) for _ in range(200)]
    assert np.mean(held) < 0.8


def test_correlated_clusters_widen_the_interval() -> None:
    generator = np.random.default_rng(1)
    change = np.repeat(generator.normal(size=20), 10)
    by_file = run(paired(np.zeros(200), change, [str(place // 10) for place in range(200)]))
    by_row = run(paired(np.zeros(200), change, [str(place) for place in range(200)]))
    assert by_file.high - by_file.low > 2 * (by_row.high - by_row.low)
    assert (by_file.num_clusters, by_row.num_clusters) == (20, 200)


@pytest.mark.parametrize(
    ("low", "high", "lower", "higher"),
    [
        (-0.2, -0.1, "better", "worse"),
        (0.1, 0.2, "worse", "better"),
        (-0.1, 0.2, "not shown", "not shown"),
        (0.0, 0.2, "not shown", "not shown"),
    ],
)
def test_the_verdict_follows_the_good_direction(low: float, high: float, lower: str, higher: str) -> None:
    assert verdict(low, high, "lower is better", num_clusters=50) == lower
    assert verdict(low, high, "higher is better", num_clusters=50) == higher


def test_too_few_clusters_show_nothing_however_clear_they_are() -> None:
    few = MIN_CLUSTERS - 1
    assert run(paired(np.ones(few), np.zeros(few), list("abcde"))).verdict == "not shown"
    assert run(paired(np.ones(6), np.zeros(6), list("abcdef"))).verdict == "better"


def test_one_cluster_has_no_interval() -> None:
    found = run(paired(np.ones(3), np.zeros(3), ["a", "a", "a"]))
    assert (found.low, found.high, found.verdict) == (-1.0, -1.0, "not shown")
