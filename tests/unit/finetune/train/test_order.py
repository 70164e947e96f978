"""The order of rows: weights, epochs and steps counted right, like lengths together, the same for the same seed."""

from collections import Counter

import pytest
from pydantic import ValidationError

from finetune.recipe.schema import TrainSection
from finetune.train.order import ends_by, pack, plan_order

LENGTHS = [10 * (1 + index % 7) for index in range(60)]


def section(**values: object) -> TrainSection:
    return TrainSection.model_validate({"micro_batch": 4, "accumulation": 2, **values})


def test_an_epoch_shows_each_row_once() -> None:
    order = plan_order(LENGTHS, [1.0] * 60, section())
    assert sorted(order.indices) == list(range(60))
    assert order.num_steps == 8


@pytest.mark.parametrize(("epochs", "rows"), [(2, 120), (0.5, 30), (1.5, 90)])
def test_epochs_count_rows(epochs: float, rows: int) -> None:
    order = plan_order(LENGTHS, [1.0] * 60, section(epochs=epochs))
    assert len(order.indices) == rows
    assert max(Counter(order.indices).values()) <= -(-epochs // 1)


def test_max_steps_wins_over_epochs_and_fills_every_step() -> None:
    order = plan_order(LENGTHS, [1.0] * 60, section(max_steps=20, epochs=1))
    assert (order.num_steps, len(order.indices)) == (20, 160)


@pytest.mark.parametrize("pass_tokens", [None, 100])
@pytest.mark.parametrize("budget", [1, 700, 2400, 9000])
def test_the_step_that_reaches_the_budget_is_the_last_and_whole(budget: int, pass_tokens: int | None) -> None:
    order = plan_order(LENGTHS, [1.0] * 60, section(token_budget=budget), pass_tokens=pass_tokens)
    tokens = order.step_tokens(LENGTHS)
    assert sum(tokens) >= budget > sum(tokens[:-1])
    assert len(order.passes) == 2 * order.num_steps


def test_a_budget_begins_as_more_steps_would() -> None:
    longer = plan_order(LENGTHS, [1.0] * 60, section(max_steps=40))
    order = plan_order(LENGTHS, [1.0] * 60, section(token_budget=4000))
    assert order.passes == longer.passes[: len(order.passes)]


@pytest.mark.parametrize("other", [{"max_steps": 5}, {"epochs": 2}])
def test_two_ends_are_refused(other: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="both say when training ends"):
        section(token_budget=1000, **other)


def test_what_ends_training_is_told() -> None:
    assert ends_by(section(epochs=2)) == "train.epochs=2.0"
    assert ends_by(section(token_budget=2e6)) == "train.token_budget=2,000,000"
    looked = section(max_steps=30, evaluate_every_steps=5, stop_after_worse=3)
    assert ends_by(looked) == "train.max_steps=30, or after train.stop_after_worse=3 looks that are no better"


def test_weights_are_how_often_a_row_is_seen() -> None:
    weights = [3.0] * 30 + [0.5] * 30
    counts = Counter(plan_order(LENGTHS, weights, section()).indices)
    assert all(counts[index] == 3 for index in range(30))
    assert 5 < sum(counts[index] for index in range(30, 60)) < 25


def test_a_micro_batch_holds_like_lengths() -> None:
    order = plan_order(LENGTHS, [1.0] * 60, section())
    padded = sum(4 * max(LENGTHS[index] for index in order.indices[start : start + 4]) for start in range(0, 60, 4))
    assert padded <= 1.1 * sum(LENGTHS)


def test_steps_are_not_sorted_by_length() -> None:
    tokens = plan_order(LENGTHS, [1.0] * 60, section()).step_tokens(LENGTHS)
    assert tokens != sorted(tokens)
    assert sum(tokens) == sum(LENGTHS)


def test_the_seed_decides_the_order() -> None:
    first = plan_order(LENGTHS, [1.5] * 60, section(seed=1))
    assert first == plan_order(LENGTHS, [1.5] * 60, section(seed=1))
    assert first != plan_order(LENGTHS, [1.5] * 60, section(seed=2))


def test_a_weight_below_one_never_leaves_nothing() -> None:
    assert len(plan_order([10], [0.001], section()).indices) == 1


def test_packing_shows_each_row_once_and_overfills_nothing() -> None:
    order = plan_order(LENGTHS, [1.0] * 60, section(), pass_tokens=100)
    assert order.packed and sorted(order.indices) == list(range(60))
    assert max(sum(LENGTHS[index] for index in rows) for rows in order.passes) <= 100
    assert order.num_steps == -(-len(order.passes) // 2)
    assert order.rows_done(1) == len(order.passes[0]) + len(order.passes[1])


def test_packing_fills_passes() -> None:
    packs = pack(range(60), LENGTHS, pass_tokens=100)
    assert len(packs) == -(-sum(LENGTHS) // 100)


def test_packed_steps_are_as_many_as_asked_for() -> None:
    order = plan_order(LENGTHS, [1.0] * 60, section(max_steps=20), pass_tokens=100)
    assert (order.num_steps, len(order.passes)) == (20, 40)
    counts = Counter(order.indices)
    assert max(counts.values()) - min(counts.values()) <= 2


@pytest.mark.parametrize(("epochs", "rows"), [(2, 120), (0.5, 30)])
def test_epochs_count_packed_rows(epochs: float, rows: int) -> None:
    assert len(plan_order(LENGTHS, [1.0] * 60, section(epochs=epochs), pass_tokens=100).indices) == rows


def test_packs_of_a_step_are_not_the_longest_rows_first() -> None:
    order = plan_order(LENGTHS, [1.0] * 60, section(), pass_tokens=70)
    sizes = [len(rows) for rows in order.passes]
    assert sizes != sorted(sizes)
