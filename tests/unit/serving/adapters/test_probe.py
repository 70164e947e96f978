"""The judgement on a loaded adapter."""

import pytest

from finetune.contracts.adapter import ReferenceProbe
from finetune.contracts.errors import AdapterError
from serving.adapters.probe import judge
from serving.engines.base import ProbeReading
from serving.errors import AdapterConflictError

BASE, ADAPTER = (-2.0, -3.0, -4.0), (-1.0, -2.5, -3.0)
PROBE = ReferenceProbe(token_ids=(1,), continuation_ids=(2, 3, 4), base_log_probs=BASE, adapter_log_probs=ADAPTER)


def moved(row: tuple[float, ...], by: float) -> tuple[float, ...]:
    return tuple(value + by for value in row)


@pytest.mark.parametrize("by", [0.0, 0.02, -0.04])
def test_what_was_recorded_passes(by):
    """A judgement that is not good is raised."""
    assert judge(ProbeReading(moved(BASE, by / 4), moved(ADAPTER, by)), PROBE) is None


def test_other_arithmetic_is_allowed_for_as_far_as_the_base_shows_it():
    judge(ProbeReading(moved(BASE, 0.2), moved(ADAPTER, 0.3)), PROBE)
    with pytest.raises(AdapterConflictError, match="apart from the record"):
        judge(ProbeReading(BASE, moved(ADAPTER, 0.3)), PROBE)


def test_no_effect_is_refused():
    with pytest.raises(AdapterConflictError, match="does not change"):
        judge(ProbeReading(BASE, moved(BASE, 1e-5)), PROBE)


def test_a_base_that_answers_otherwise_is_refused():
    with pytest.raises(AdapterConflictError, match="The base itself"):
        judge(ProbeReading(moved(BASE, 1.0), moved(ADAPTER, 1.0)), PROBE)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(AdapterError, match="not a number"):
        judge(ProbeReading(BASE, (value, -2.5, -3.0)), PROBE)


def test_an_incomplete_record_is_refused():
    short = PROBE.model_copy(update={"base_log_probs": (-2.0,)})
    with pytest.raises(AdapterError, match="incomplete"):
        judge(ProbeReading(BASE, ADAPTER), short)
