"""What may be said: direction, margin, too few clusters, and the price of looking at many figures."""

import numpy as np
import pytest

from finetune.contracts.evaluation import SuiteName
from finetune.evaluate.metric import Metric
from finetune.evaluate.stats import Comparison
from finetune.evaluate.verdict import holm, score_of, verdict, why_not_shown


def found(low: float, high: float, *, p_value: float = 0.01, num_clusters: int = 50) -> Comparison:
    middle = (low + high) / 2
    return Comparison(
        base=1.0,
        adapter=1.0 + middle,
        difference=middle,
        low=low,
        high=high,
        standard_error=(high - low) / 4,
        p_value=p_value,
        discordant=None,
        num_items=100,
        num_clusters=num_clusters,
    )


def metric(margin: float | None = None) -> Metric:
    return Metric(SuiteName.RETENTION, "share of sums", "share", "higher is better", "mean", margin=margin)


# R's documentation of p.adjust, method "holm"
def test_holms_procedure_gives_the_textbook_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([]) == ()


def test_holm_keeps_the_chance_of_one_wrong_word_at_5_of_100() -> None:
    generator = np.random.default_rng(0)
    wrong = [min(holm(list(generator.random(12)))) <= 0.05 for _ in range(4000)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.012)


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
    assert verdict(found(low, high), "lower is better", p_value=0.01, margin=None) == lower
    assert verdict(found(low, high), "higher is better", p_value=0.01, margin=None) == higher


@pytest.mark.parametrize(
    ("low", "high", "p_value", "expected"),
    [
        (-0.04, 0.03, 0.5, "no worse"),
        (-0.05, 0.03, 0.5, "not shown"),
        (-0.06, 0.03, 0.5, "not shown"),
        (-0.04, -0.01, 0.01, "no worse"),
        (-0.08, -0.01, 0.01, "worse"),
        (0.01, 0.03, 0.01, "better"),
        (0.01, 0.03, 0.2, "no worse"),
    ],
)
def test_a_margin_asks_for_a_loss_below_it(low: float, high: float, p_value: float, expected: str) -> None:
    assert verdict(found(low, high), "higher is better", p_value=p_value, margin=0.05) == expected
    assert verdict(found(-high, -low), "lower is better", p_value=p_value, margin=0.05) == expected


def test_interval_and_p_value_must_both_say_so() -> None:
    assert verdict(found(0.1, 0.2), "higher is better", p_value=0.06, margin=None) == "not shown"
    assert verdict(found(-0.1, 0.2), "higher is better", p_value=0.01, margin=None) == "not shown"


@pytest.mark.parametrize("margin", [None, 0.05])
def test_too_few_clusters_show_nothing_and_say_so(margin: float | None) -> None:
    score = score_of(metric(margin), found(0.1, 0.2, num_clusters=5), adjusted=None, num_compared=1)
    assert score.verdict == "not shown"
    assert why_not_shown(score) == "rests on 5 of the 6 files that any verdict takes"


def test_a_verdict_among_others_goes_by_the_adjusted_p_value() -> None:
    alone = score_of(metric(), found(0.1, 0.2), adjusted=None, num_compared=1)
    among = score_of(metric(), found(0.1, 0.2), adjusted=0.08, num_compared=8)
    assert (alone.verdict, among.verdict) == ("better", "not shown")
    assert (alone.num_needed, among.adjusted_p_value) == (None, 0.08)


def test_what_is_missing_is_said_in_words() -> None:
    unclear = score_of(metric(), found(-0.01, 0.03, p_value=0.3), adjusted=None, num_compared=1)
    assert why_not_shown(unclear) == f"about {unclear.num_needed} tasks would show this difference; there are 100"
    equal = score_of(metric(), found(0.0, 0.0, p_value=1.0), adjusted=None, num_compared=1)
    assert why_not_shown(equal) == "both came to the same"
    lost = score_of(metric(0.05), found(-0.14, 0.02, p_value=0.3), adjusted=None, num_compared=1)
    assert why_not_shown(lost) == "the loss is not below 0.05"
    assert why_not_shown(score_of(metric(), found(0.1, 0.2), adjusted=None, num_compared=1)) == ""
