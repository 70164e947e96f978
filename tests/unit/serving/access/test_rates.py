"""A key that asks too often is told when to come back."""

import time

import pytest

from serving.access.rates import Rates
from serving.access.scopes import OPERATOR, Caller, Limits
from serving.errors import RateError


@pytest.fixture
def clock(monkeypatch):
    """Seconds that can be set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_minute_s_requests_at_once_and_then_at_their_pace(clock):
    rates, ada = Rates(), Caller("ada", frozenset(), (), Limits(4))
    for _ in range(4):
        rates.take(ada)
    for _ in range(3):
        with pytest.raises(RateError) as caught:
            rates.take(ada)
    assert caught.value.retry_after_seconds == 15
    rates.take(Caller("bob", frozenset(), (), Limits(1)))
    clock[0] += 15
    rates.take(ada)
    with pytest.raises(RateError):
        rates.take(ada)
    clock[0] += 3600
    for _ in range(4):
        rates.take(ada)
    with pytest.raises(RateError):
        rates.take(ada)


def test_without_a_limit_nothing_is_counted(clock):
    rates = Rates()
    for _ in range(1000):
        rates.take(OPERATOR)
    assert rates._allowances == {}
