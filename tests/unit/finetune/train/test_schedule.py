"""The learning rate: up, then down; no step is taken with a rate of 0."""

import pytest

from finetune.recipe.schema import TrainSection
from finetune.train.schedule import rate_share


def shares(num_steps: int, **values: object) -> list[float]:
    section = TrainSection.model_validate(values)
    return [rate_share(step, num_steps, section) for step in range(num_steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("num_steps", [1, 2, 10, 200])
def test_every_step_has_a_rate(schedule: str, num_steps: int) -> None:
    found = shares(num_steps, schedule=schedule, warmup_share=0.1)
    assert all(0 < share <= 1 for share in found)
    assert max(found) == 1.0


def test_warm_up_rises_then_cosine_falls() -> None:
    found = shares(20, warmup_share=0.2)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[4:] == sorted(found[4:], reverse=True)
    assert found[-1] < 0.02


def test_linear_falls_in_equal_parts() -> None:
    assert shares(4, schedule="linear", warmup_share=0.0) == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_constant_stays() -> None:
    assert shares(5, schedule="constant", warmup_share=0.0) == [1.0] * 5
