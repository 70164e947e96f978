"""How often each key asks."""

import math
import time
from dataclasses import dataclass

from serving.access.scopes import Caller
from serving.errors import RateError


@dataclass(slots=True)
class _Allowance:
    """Requests that may be made right now, as of a time of the monotonic clock."""

    left: float
    at: float


class Rates:
    """Lets each key make its requests of a minute at once, and then one whenever its share of the minute has passed.

    The counts are this server's own, and begin anew when it does.
    """

    def __init__(self) -> None:
        self._allowances: dict[str, _Allowance] = {}

    def take(self, caller: Caller) -> None:
        """Count a request. Raises RateError for one too many, which does not count."""
        limit = caller.limits.requests_per_minute
        if limit is not None and (wait := self.wait(caller.name, limit)):
            raise RateError(requests_per_minute=limit, retry_after_seconds=math.ceil(wait))

    def wait(self, name: str, limit: int) -> float:
        """Count one, and 0; or, uncounted, the seconds until there may be one with so many a minute."""
        allowance = self._allowance(name, limit)
        if allowance.left < 1:
            return (1 - allowance.left) * 60 / limit
        allowance.left -= 1
        return 0.0

    def left(self, caller: Caller) -> tuple[int, float]:
        """Requests that may be made right now, and the seconds until all of a minute may; (0, 0) without a limit."""
        limit = caller.limits.requests_per_minute
        if limit is None:
            return 0, 0.0
        allowance = self._allowance(caller.name, limit)
        return int(allowance.left), (limit - allowance.left) * 60 / limit

    def _allowance(self, name: str, limit: int) -> _Allowance:
        now = time.monotonic()
        allowance = self._allowances.setdefault(name, _Allowance(limit, now))
        allowance.left = min(limit, allowance.left + (now - allowance.at) * limit / 60)
        allowance.at = now
        return allowance
