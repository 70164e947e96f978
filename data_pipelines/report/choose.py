"""Which rows are shown: ten of each task, spread over languages, strata, repositories and sides of the split."""

from bisect import insort
from collections import Counter, defaultdict
from typing import NamedTuple

ROWS_PER_TASK = 10
# sharing the language with a row that is shown already counts most against a candidate
WEIGHTS = (4, 2, 2, 1)


class Cell(NamedTuple):
    """What two rows may have in common."""

    language: str
    repo: str
    stratum: str
    side: str


class Place(NamedTuple):
    """A row by its id, and where it lies: shard by its name, row by its number in it."""

    id: str
    shard: str
    row: int


class Choice:
    """Keeps the rows with the lowest ids of every cell. Ids are digests, so the lowest are as good as drawn, and equal
    datasets show equal rows. Memory grows with the cells (languages x repositories x strata), not with the rows."""

    def __init__(self) -> None:
        self._cells: dict[str, dict[Cell, list[Place]]] = defaultdict(dict)

    def offer(self, task: str, cell: Cell, place: Place) -> None:
        """Take a row into account."""
        kept = self._cells[task].setdefault(cell, [])
        if len(kept) < ROWS_PER_TASK:
            insort(kept, place)
        elif place < kept[-1]:
            kept.pop()
            insort(kept, place)

    def of_task(self, task: str) -> list[Place]:
        """Up to ROWS_PER_TASK places, each as unlike those before as there is one."""
        left = {cell: list(places) for cell, places in self._cells.get(task, {}).items()}
        shown: list[Counter[str]] = [Counter() for _ in Cell._fields]
        chosen: list[Place] = []
        while left and len(chosen) < ROWS_PER_TASK:
            cell = min(left, key=lambda cell: (_likeness(cell, shown), left[cell][0]))
            chosen.append(left[cell].pop(0))
            for counter, value in zip(shown, cell, strict=True):
                counter[value] += 1
            if not left[cell]:
                del left[cell]
        return chosen


def _likeness(cell: Cell, shown: list[Counter[str]]) -> int:
    return sum(weight * counter[value] for weight, counter, value in zip(WEIGHTS, shown, cell, strict=True))
