"""How many tasks are needed: the published table, and that the number has the power it promises."""

import math

import numpy as np
import pytest

from finetune.evaluate.sample_size import clusters_for_level, num_needed, num_needed_within, tasks_for_shares
from finetune.evaluate.stats import LEVEL, MIN_CLUSTERS, Comparison, PairedRows, mcnemar_p, sign_flip_p


@pytest.mark.parametrize(
    ("discordant", "difference", "expected"),
    [
        (0.10, 0.03, 870), (0.10, 0.05, 312), (0.10, 0.08, 120),
        (0.15, 0.03, 1306), (0.15, 0.05, 469), (0.15, 0.10, 115),
        (0.25, 0.03, 2178), (0.25, 0.05, 783), (0.25, 0.10, 194),
    ],
)  # fmt: skip
def test_connors_formula_gives_the_table(discordant: float, difference: float, expected: int) -> None:
    """The table rounds to the nearest task, the function up."""
    assert tasks_for_shares(discordant, difference) - expected in (0, 1)


def test_mcnemars_test_has_the_promised_power_at_that_size() -> None:
    generator = np.random.default_rng(0)
    num_tasks = tasks_for_shares(0.15, 0.05)
    drawn = generator.multinomial(num_tasks, [0.10, 0.05, 0.85], size=1500)
    shown = np.mean([mcnemar_p(int(won), int(lost)) <= LEVEL for won, lost, _ in drawn])
    assert 0.75 <= shown <= 0.85


def normal_rows(generator: np.random.Generator, num_tasks: int, difference: float) -> PairedRows:
    """Four tasks to a file, half of the spread shared within it."""
    num_files = num_tasks // 4
    change = difference + np.repeat(generator.normal(size=num_files), 4) + generator.normal(size=num_files * 4)
    names = [str(place // 4) for place in range(len(change))]
    return PairedRows([0.0] * len(change), list(change), [1.0] * len(change), names)


def test_a_mean_has_the_promised_power_at_the_number_of_tasks_needed() -> None:
    """The error given is that of 100 files: each mean of four tasks has variance 1 + 1/4."""
    needed = num_needed(found(difference=0.3, standard_error=math.sqrt(1.25 / 100), num_items=400, num_clusters=100))
    assert needed is not None
    generator = np.random.default_rng(3)
    shown = []
    for _ in range(500):
        rows = normal_rows(generator, needed, 0.3)
        changes = np.bincount([int(name) for name in rows.clusters], weights=np.asarray(rows.adapter))
        shown.append(sign_flip_p(changes, seed=0) <= LEVEL)
    assert 0.75 <= np.mean(shown) <= 0.85


def found(**changed: float) -> Comparison:
    figures = {
        "base": 0.5, "adapter": 0.52, "difference": 0.02, "low": -0.02, "high": 0.06, "standard_error": 0.02,
        "p_value": 0.3, "discordant": None, "num_items": 100, "num_clusters": 50,
    }  # fmt: skip
    return Comparison(**{**figures, **changed})


def test_the_number_needed_grows_with_the_error_and_falls_with_the_difference() -> None:
    assert num_needed(found()) == 785  # 100 x (2.8016 x 0.02 / 0.02)^2
    assert num_needed(found(difference=0.04)) == 197
    assert num_needed(found(), level=LEVEL / 10) > 785


def test_no_difference_and_the_rounding_of_sums_need_no_number() -> None:
    assert num_needed(found(difference=0.0)) is None
    assert num_needed(found(difference=1e-300)) is None


def test_a_share_needs_no_fewer_tasks_than_mcnemars_test() -> None:
    assert num_needed(found(discordant=0.15, difference=0.05, standard_error=0.001)) == 469


def test_too_few_clusters_need_more_tasks_however_clear_they_are() -> None:
    assert clusters_for_level(LEVEL) == MIN_CLUSTERS
    assert clusters_for_level(LEVEL / 10) == 9
    assert num_needed(found(standard_error=0.0, num_clusters=4)) == 150


def test_a_loss_at_its_margin_is_never_shown_to_be_below_it() -> None:
    assert num_needed_within(found(), 0.05, margin=0.05) is None
    assert num_needed_within(found(), -0.02, margin=0.05) < num_needed_within(found(), 0.02, margin=0.05)
