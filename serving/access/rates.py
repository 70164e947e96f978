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
        limit = caller.requests_per_minute
        if limit is None:
            return
        now = time.monotonic()
        allowance = self._allowances.setdefault(caller.name, _Allowance(limit, now))
        allowance.left = min(limit, allowance.left + (now - allowance.at) * limit / 60)
        allowance.at = now
        if allowance.left < 1:
            wait = math.ceil((1 - allowance.left) * 60 / limit)
            raise RateError(requests_per_minute=limit, retry_after_seconds=wait)
        allowance.left -= 1
