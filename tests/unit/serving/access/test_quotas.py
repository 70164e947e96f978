"""Who has used up its tokens, or has as many requests running as it may, is told when to come back."""

import pytest

from serving.access.quotas import Quotas, _duration
from serving.access.scopes import OPERATOR, Caller, Limits
from serving.access.usage import DayTokens
from serving.errors import QuotaError, RateError


@pytest.fixture
def quotas() -> Quotas:
    return Quotas(DayTokens(None))


def caller(name: str = "ada", **limits: int) -> Caller:
    return Caller(name, frozenset(), (), Limits(**limits))


def test_only_so_many_run_at_a_time(quotas):
    ada = caller(max_concurrent=2)
    quotas.enter(ada)
    quotas.enter(ada)
    with pytest.raises(QuotaError, match="2 requests running") as caught:
        quotas.enter(ada)
    assert caught.value.code == "too_many_concurrent_requests" and caught.value.retry_after_seconds == 1
    quotas.enter(caller("bob", max_concurrent=1))
    quotas.leave(ada)
    quotas.enter(ada)


def test_one_too_many_at_a_time_does_not_count_for_the_minute(quotas):
    ada = caller(max_concurrent=1, requests_per_minute=2)
    quotas.enter(ada)
    for _ in range(5):
        with pytest.raises(QuotaError):
            quotas.enter(ada)
    quotas.leave(ada)
    quotas.enter(ada)
    quotas.leave(ada)
    with pytest.raises(RateError):
        quotas.enter(ada)
    # and was not let in
    assert quotas._running == {}


def test_a_day_s_tokens_end_one_request_late_at_most(quotas):
    ada = caller(tokens_per_day=100)
    first = quotas.book(ada, 99)
    second = quotas.book(ada, 50)
    with pytest.raises(QuotaError, match="running requests") as caught:
        quotas.book(ada, 1)
    assert caught.value.retry_after_seconds == 1
    first.spend(10)
    first.close()
    second.spend(89)
    second.close()
    third = quotas.book(ada, 1)
    third.spend(1)
    third.close()
    with pytest.raises(QuotaError, match="they are used") as caught:
        quotas.book(ada, 1)
    assert caught.value.code == "insufficient_quota" and 1 <= caught.value.retry_after_seconds <= 86_400
    quotas.book(caller("bob", tokens_per_day=1), 1)


def test_what_is_left_is_in_the_headers(quotas):
    ada = caller(tokens_per_day=100, requests_per_minute=60)
    quotas.enter(ada)
    quotas.book(ada, 30).spend(15)
    headers = quotas.headers(ada)
    assert headers["x-ratelimit-limit-requests"] == "60" and headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-reset-requests"] == "1s" and headers["x-ratelimit-limit-tokens"] == "100"
    assert headers["x-ratelimit-remaining-tokens"] == "55"
    assert headers["x-ratelimit-reset-tokens"].endswith("s")
    assert quotas.headers(OPERATOR) == quotas.headers(caller()) == {}


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (90, "1m30s"), (60, "1m0s"), (7200, "2h0m0s")])
def test_durations_are_written_as_openai_writes_them(seconds, text):
    assert _duration(seconds) == text


def test_what_the_operator_of_an_open_server_uses_is_not_counted(quotas):
    quotas.book(OPERATOR, 5).spend(5)
    assert quotas.tokens.used("") == 0
