"""Choosing a token from logits."""

import math

import pytest
import torch

from serving.engines.base import Sampling
from serving.engines.sampling import make_generator, pick, score
from serving.errors import EngineError

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def draw(num: int, **options) -> list[int]:
    sampling = Sampling(**options)
    generator = make_generator(sampling, "cpu")
    return [pick(LOGITS, sampling, generator=generator) for _ in range(num)]


def test_temperature_zero_is_greedy():
    assert set(draw(20, temperature=0.0)) == {0}


def test_a_seed_repeats_and_no_seed_does_not():
    assert draw(40, seed=-3) == draw(40, seed=-3) != draw(40, seed=4)
    assert draw(60) != draw(60)


def test_the_shares_are_those_of_the_distribution():
    drawn = draw(4000, seed=0)
    for token, share in enumerate((0.5, 0.3, 0.15, 0.05)):
        assert abs(drawn.count(token) / 4000 - share) < 0.03


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.0, {0}), (0.5, {0}), (0.51, {0, 1}), (0.8, {0, 1}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_likeliest(top_p, kept):
    assert set(draw(400, seed=1, top_p=top_p)) == kept


def test_a_tiny_temperature_makes_no_infinity():
    assert set(draw(20, temperature=1e-300)) == {0}


@pytest.mark.parametrize("logits", [(0.0, math.nan), (0.0, math.inf), (-math.inf, -math.inf)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_refused(logits, temperature):
    """Drawing from them would end a CUDA device for the whole process."""
    sampling = Sampling(temperature=temperature)
    with pytest.raises(EngineError, match="no number"):
        pick(torch.tensor(logits), sampling, generator=make_generator(sampling, "cpu"))


def test_a_score_is_before_temperature():
    row = score(LOGITS, 2, num_top=2, decode=lambda ids: f"t{ids[0]}")
    assert row.text == "t2" and math.isclose(row.log_prob, math.log(0.15), rel_tol=1e-5)
    assert [text for text, _ in row.top] == ["t0", "t1"] and math.isclose(row.top[0][1], math.log(0.5), rel_tol=1e-5)
    assert score(LOGITS, 0, num_top=0, decode=str).top == ()
