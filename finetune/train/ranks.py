"""The processes that train one run together, each with the whole base and a share of every step's rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process' place among size processes; rank 0 leads: it alone writes and reports.

    The methods are collective: every process calls them at the same point. With one process they cost nothing.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def gather(self, value: T) -> Sequence[T]:
        """The value of each process, by rank."""
        if self.size == 1:
            return [value]
        from torch import distributed

        found: list[T | None] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def share(self, value: T) -> T:
        """The leader's value; what the others give is not looked at."""
        return self.gather(value if self.leads else None)[0]  # type: ignore[return-value]

    def any(self, flag: bool) -> bool:
        """Whether some process says so."""
        return any(self.gather(flag))

    def mean(self, value: float) -> float:
        """The mean over the processes, added in the order of their ranks."""
        found = self.gather(value)
        return sum(found) / len(found)


ALONE = Ranks()
