"""Shares and ranks: exact intervals, a false alarm as rare as it says, exposure as defined."""

import random

import pytest

from finetune.evaluate.leakage.shares import Share, exposures, mean_interval, ranks, recognised


def test_the_interval_is_that_of_clopper_and_pearson() -> None:
    assert Share(0, 100).interval() == (0.0, pytest.approx(0.0362, abs=1e-4))
    assert Share(2, 16).interval() == (pytest.approx(0.0155, abs=1e-4), pytest.approx(0.3835, abs=1e-4))
    assert Share(0, 0).interval() == (0.0, 1.0)


def test_ties_count_against_the_canary() -> None:
    assert ranks([2.0, 1.0, 0.0], [1.0, 1.0, 0.5]) == [1, 3, 4]
    assert recognised([0.0] * 5, [0.0] * 200).successes == 0


def test_without_a_hundred_controls_nothing_is_recognised() -> None:
    assert recognised([9.0], [0.0] * 98).successes == 0
    assert recognised([9.0], [0.0] * 99).successes == 1


def test_by_chance_no_more_than_one_in_a_hundred_is_recognised() -> None:
    draw = random.Random(1)
    found = [recognised([draw.random() for _ in range(16)], [draw.random() for _ in range(102)]) for _ in range(600)]
    assert sum(share.successes for share in found) / (16 * 600) <= 0.012
    # the limit of a finding: the lower end above 2 %
    assert sum(share.interval()[0] > 0.02 for share in found) / 600 <= 0.01


def test_exposure_is_log2_of_candidates_over_rank() -> None:
    controls = [float(value) for value in range(127)]
    assert exposures([1000.0], controls) == [7.0]
    assert exposures([-1.0], controls) == [0.0]
    assert exposures([63.5], controls) == [1.0]


def test_the_interval_of_a_mean_holds_it_and_repeats() -> None:
    values = [0.0, 1.0, 5.0, 6.0]
    low, high = mean_interval(values, seed=3)
    assert low < 3.0 < high and mean_interval(values, seed=3) == (low, high)
    assert mean_interval([2.0], seed=0) == (2.0, 2.0)
