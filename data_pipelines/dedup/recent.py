"""Shingles of the texts that were compared last."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from data_pipelines.dedup.shingles import Words64, shingles

MAX_BYTES: Final = 64 << 20


class RecentShingles:
    """Shingles by unit; the least recently used go when together they take more than max_bytes."""

    def __init__(self, read: Callable[[int], bytes], *, max_bytes: int = MAX_BYTES) -> None:
        self._read = read
        self._max_bytes = max_bytes
        self._held: OrderedDict[int, Words64] = OrderedDict()
        self._bytes = 0

    def of(self, unit: int) -> Words64:
        """The sorted unique shingles of a unit's text."""
        found = self._held.get(unit)
        if found is not None:
            self._held.move_to_end(unit)
            return found
        found = self._held[unit] = shingles(self._read(unit))
        self._bytes += found.nbytes
        while self._bytes > self._max_bytes:
            self._bytes -= self._held.popitem(last=False)[1].nbytes
        return found
