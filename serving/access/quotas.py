"""How much each caller asks: requests a minute, requests at a time, tokens a day."""

import math
from collections import Counter
from dataclasses import dataclass

from serving.access.rates import Rates
from serving.access.scopes import Caller
from serving.access.usage import DayTokens, seconds_left
from serving.errors import QuotaError

# When somebody who has as many requests running as it may is told to come back
CONCURRENT_RETRY_SECONDS = 1


@dataclass(slots=True)
class Booking:
    """Tokens of one accepted request. Those that it may still use count as used for whoever asks next."""

    quotas: "Quotas"
    caller: Caller
    num_open: int

    def spend(self, num_tokens: int) -> None:
        """Count tokens that were used."""
        if self.caller.name:
            self.quotas.tokens.add(self.caller.name, num_tokens)

    def close(self) -> None:
        """Give back what was not used."""
        self.quotas.booked[self.caller.name] -= self.num_open
        self.num_open = 0


class Quotas:
    """Lets callers in as their limits say. The tokens of a day outlive a restart, the other counts begin anew."""

    def __init__(self, tokens: DayTokens) -> None:
        self.tokens = tokens
        self.booked: Counter[str] = Counter()
        self._rates = Rates()
        self._running: Counter[str] = Counter()

    def enter(self, caller: Caller) -> None:
        """Count a request that begins; leave ends it. Raises QuotaError or RateError for one too many, uncounted."""
        limit = caller.limits.max_concurrent
        if limit is not None and self._running[caller.name] >= limit:
            raise QuotaError(
                f"This key may have {limit} requests running at a time.",
                code="too_many_concurrent_requests",
                retry_after_seconds=CONCURRENT_RETRY_SECONDS,
            )
        self._rates.take(caller)
        self._running[caller.name] += 1

    def leave(self, caller: Caller) -> None:
        """End a request that was let in."""
        self._running[caller.name] -= 1
        if not self._running[caller.name]:
            del self._running[caller.name]

    def book(self, caller: Caller, num_tokens: int) -> Booking:
        """Accept a request for answers of up to num_tokens. Raises QuotaError where no token is left.

        One token that is left lets a request in, whatever it may use: so the day ends at most one request late.
        """
        limit = caller.limits.tokens_per_day
        if limit is not None and self._taken(caller) >= limit:
            is_used = self.tokens.used(caller.name) >= limit
            raise QuotaError(
                f"This key may use {limit} tokens a day; "
                + ("they are used." if is_used else "its running requests may use what is left."),
                code="insufficient_quota",
                retry_after_seconds=seconds_left() if is_used else CONCURRENT_RETRY_SECONDS,
            )
        self.booked[caller.name] += num_tokens
        return Booking(self, caller, num_tokens)

    def headers(self, caller: Caller) -> dict[str, str]:
        """What is left, in the headers that OpenAI's clients know; none where there is no limit."""
        limits = caller.limits
        found: dict[str, str] = {}
        if limits.requests_per_minute is not None:
            left, full_seconds = self._rates.left(caller)
            found |= _headers("requests", limits.requests_per_minute, left, reset_seconds=full_seconds)
        if limits.tokens_per_day is not None:
            left = limits.tokens_per_day - self._taken(caller)
            found |= _headers("tokens", limits.tokens_per_day, left, reset_seconds=seconds_left())
        return found

    def _taken(self, caller: Caller) -> int:
        return self.tokens.used(caller.name) + self.booked[caller.name]


def _headers(what: str, limit: int, left: int, *, reset_seconds: float) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{what}": str(limit),
        f"x-ratelimit-remaining-{what}": str(max(left, 0)),
        f"x-ratelimit-reset-{what}": _duration(math.ceil(reset_seconds)),
    }


def _duration(seconds: int) -> str:
    """As Go writes it, and so OpenAI: 6h0m0s, 1m30s, 12s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
