"""Interval, p-value and error: known answers, agreement with scipy, and how often the interval holds the truth."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy import stats

from finetune.evaluate.stats import (
    FLIPS,
    Comparison,
    PairedRows,
    bootstrap_differences,
    cluster_standard_error,
    cluster_sums,
    compare,
    mcnemar_p,
    paired_share_interval,
    share_interval,
    sign_flip_p,
    tail_share,
)


def paired(base: np.ndarray, adapter: np.ndarray, clusters: list[str]) -> PairedRows:
    return PairedRows(base=list(base), adapter=list(adapter), size=[1.0] * len(base), clusters=clusters)


def alone(num_tasks: int) -> list[str]:
    return [str(place) for place in range(num_tasks)]


def run(rows: PairedRows) -> Comparison:
    return compare(rows, "mean", resamples=1000, seed=0)


def test_a_figure_is_a_sum_over_sizes_and_not_a_mean_of_ratios() -> None:
    rows = PairedRows(base=[10.0, 2.0], adapter=[5.0, 1.0], size=[2.0, 4.0], clusters=["a", "b"])
    found = compare(rows, "ratio", resamples=100, seed=0)
    assert (found.base, found.adapter, found.difference) == (2.0, 1.0, -1.0)


def test_a_constant_difference_has_an_interval_of_no_width() -> None:
    base = np.arange(20.0)
    found = run(paired(base, base - 0.5, alone(20)))
    assert (found.low, found.high) == pytest.approx((-0.5, -0.5))
    assert found.p_value < 0.001


def test_equal_models_have_no_difference_and_no_evidence() -> None:
    base = np.arange(20.0)
    found = run(paired(base, base, alone(20)))
    assert (found.low, found.high, found.p_value, found.standard_error) == (0.0, 0.0, 1.0, 0.0)


def test_rows_of_a_cluster_are_summed_together() -> None:
    rows = PairedRows(base=[1.0, 2.0, 4.0], adapter=[1.0, 1.0, 1.0], size=[1.0, 2.0, 3.0], clusters=["b", "a", "b"])
    assert cluster_sums(rows).tolist() == [[2.0, 1.0, 2.0], [5.0, 2.0, 4.0]]


def test_the_bootstrap_agrees_with_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    drawn = bootstrap_differences(cluster_sums(paired(np.zeros(60), values, alone(60))), resamples=20_000, seed=0)
    other = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=1, method="percentile", confidence_level=0.95)
    ends = (other.confidence_interval.low, other.confidence_interval.high)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx(ends, rel=0.02)


def test_the_standard_error_is_that_of_the_mean_and_of_the_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=400)
    sums = cluster_sums(paired(np.zeros(400), values, alone(400)))
    assert cluster_standard_error(sums) == pytest.approx(stats.sem(values))
    generator = np.random.default_rng(1)
    uneven = np.stack([np.zeros(300), generator.normal(size=300), generator.integers(1, 9, size=300)], axis=1)
    drawn = bootstrap_differences(uneven, resamples=5000, seed=0)
    assert cluster_standard_error(uneven) == pytest.approx(drawn.std(), rel=0.05)


def test_the_same_seed_gives_the_same_comparison_and_another_one_does_not() -> None:
    values = np.random.default_rng(0).normal(size=30)
    rows = paired(np.zeros(30), values, alone(30))
    found = [compare(rows, "mean", resamples=500, seed=seed) for seed in (3, 3, 4)]
    assert found[0] == found[1] != found[2]


def test_few_clusters_are_cut_further_out() -> None:
    assert tail_share(6) < tail_share(20) < tail_share(1000) < 0.025
    assert tail_share(100_000) == pytest.approx(0.025, abs=1e-4)


def test_sign_flips_of_few_clusters_are_all_tried() -> None:
    changes = np.array([0.3, -0.1, 0.5, 0.2, 0.0, 0.4, 0.05])
    sums = [abs(sum(signs * changes)) for signs in product((-1, 1), repeat=len(changes))]
    by_hand = np.mean([value >= abs(changes.sum()) - 1e-12 for value in sums])
    assert sign_flip_p(changes, seed=0) == pytest.approx(by_hand)
    assert sign_flip_p(np.ones(6), seed=0) == 2 / 2**6
    assert sign_flip_p(np.ones(5), seed=0) == 2 / 2**5
    assert sign_flip_p(np.zeros(9), seed=0) == 1.0


def test_drawn_sign_flips_never_give_a_p_value_of_0() -> None:
    assert sign_flip_p(np.ones(60), seed=0) == 1 / (FLIPS + 1)


@pytest.mark.parametrize("num_clusters", [8, 13, 14, 150])
def test_sign_flips_agree_with_scipys_permutation_test(num_clusters: int) -> None:
    values = np.random.default_rng(num_clusters).normal(0.3, size=num_clusters)
    other = stats.permutation_test(
        (values, np.zeros_like(values)),
        lambda left, right, axis: (left - right).sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9_999,
        rng=1,
    )
    assert sign_flip_p(values, seed=0) == pytest.approx(other.pvalue, abs=0.0 if num_clusters < 14 else 0.01)
    assert sign_flip_p(values, seed=0) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.03)


# The first is statsmodels' own test value, of the table [[101, 121], [59, 33]]
@pytest.mark.parametrize(("won", "lost", "expected"), [(121, 59, 4.434449e-06), (6, 0, 0.03125), (0, 0, 1.0)])
def test_mcnemars_p_is_the_published_one(won: int, lost: int, expected: float) -> None:
    assert mcnemar_p(won, lost) == pytest.approx(expected, rel=1e-5)
    assert mcnemar_p(lost, won) == mcnemar_p(won, lost)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.3085), (1, 10, 0.0025, 0.4450), (10, 10, 0.6915, 1.0), (5, 20, 0.0866, 0.4910), (0, 0, 0.0, 1.0)],
)
def test_shares_have_clopper_and_pearsons_interval(successes: int, trials: int, low: float, high: float) -> None:
    assert share_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_no_change_seen_is_not_no_change_to_come() -> None:
    low, high = paired_share_interval(0, 0, 40)
    assert (low, high) == pytest.approx((-0.066, 0.066), abs=5e-4)
    found = compare(paired(np.zeros(40), np.zeros(40), alone(40)), "pass or fail", resamples=200, seed=0)
    assert (found.low, found.high, found.discordant) == (low, high, 0.0)


def test_a_pass_is_0_or_1() -> None:
    with pytest.raises(ValueError, match="passed, 1, or failed, 0"):
        compare(paired(np.zeros(3), np.full(3, 0.5), list("abc")), "pass or fail", resamples=100, seed=0)


def normal_changes(generator: np.random.Generator, num_clusters: int, per_cluster: int) -> np.ndarray:
    shared = np.repeat(generator.normal(size=num_clusters), per_cluster)
    return -0.1 + shared + 0.3 * generator.normal(size=num_clusters * per_cluster)


def holds(generator: np.random.Generator, *, num_clusters: int, per_cluster: int, naive: bool) -> bool:
    change = normal_changes(generator, num_clusters, per_cluster)
    places = np.arange(len(change))
    names = places if naive else places // per_cluster
    found = compare(paired(np.zeros(len(change)), change, [str(name) for name in names]), "mean", resamples=400, seed=0)
    return found.low <= -0.1 <= found.high


@pytest.mark.parametrize("num_clusters", [8, 30])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(num_clusters: int) -> None:
    generator = np.random.default_rng(7)
    held = [holds(generator, num_clusters=num_clusters, per_cluster=5, naive=False) for _ in range(400)]
    assert 0.92 <= np.mean(held) <= 0.98


def test_rows_taken_as_independent_would_promise_too_much() -> None:
    generator = np.random.default_rng(7)
    held = [holds(generator, num_clusters=30, per_cluster=5, naive=True) for _ in range(100)]
    assert np.mean(held) < 0.8


def ratio_rows(generator: np.random.Generator, num_tasks: int) -> PairedRows:
    """Bits over bytes of uneven files; the truth is a difference of -0.1 bits per byte."""
    size = generator.integers(20, 400, size=num_tasks).astype(float)
    base = size * generator.gamma(20, 0.1, size=num_tasks)
    adapter = base + size * generator.normal(-0.1, 0.4, size=num_tasks)
    return PairedRows(list(base), list(adapter), list(size), alone(num_tasks))


def pass_rows(generator: np.random.Generator, num_tasks: int) -> PairedRows:
    """Base passes 30 %, a tenth of tasks is won and a twentieth lost: the truth is +0.05."""
    drawn = generator.random(num_tasks)
    base = (drawn < 0.3).astype(float)
    adapter = np.where(drawn < 0.05, 0.0, np.where(drawn > 0.9, 1.0, base))
    return PairedRows(list(base), list(adapter), [1.0] * num_tasks, alone(num_tasks))


@pytest.mark.parametrize(("make", "kind", "truth"), [(ratio_rows, "ratio", -0.1), (pass_rows, "pass or fail", 0.05)])
def test_the_interval_of_each_kind_holds_the_truth(make: Callable, kind: str, truth: float) -> None:
    generator = np.random.default_rng(11)
    found = [compare(make(generator, 80), kind, resamples=300, seed=0) for _ in range(200)]
    assert 0.92 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.985


def test_correlated_clusters_widen_the_interval() -> None:
    generator = np.random.default_rng(1)
    change = np.repeat(generator.normal(size=20), 10)
    by_file = run(paired(np.zeros(200), change, [str(place // 10) for place in range(200)]))
    by_row = run(paired(np.zeros(200), change, alone(200)))
    assert by_file.high - by_file.low > 2 * (by_row.high - by_row.low)
    assert by_file.standard_error == pytest.approx(math.sqrt(10) * by_row.standard_error, rel=0.1)
    assert (by_file.num_clusters, by_row.num_clusters) == (20, 200)


def test_one_cluster_has_no_interval() -> None:
    found = run(paired(np.ones(3), np.zeros(3), ["a", "a", "a"]))
    assert (found.low, found.high, found.p_value) == (-1.0, -1.0, 1.0)
