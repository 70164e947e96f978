"""Lengths as a histogram of fixed size: figures over any number of rows in a few kilobytes."""

from collections import Counter
from collections.abc import Sequence
from math import log2

# a bin is a sixteenth of a doubling wide, so a percentile is right to within 2.2 %
BINS_PER_DOUBLING = 16


class Lengths:
    """Counts of lengths in bytes; num_rows, total and largest are exact."""

    def __init__(self) -> None:
        self.num_rows = 0
        self.total = 0
        self.largest = 0
        self._bins: Counter[int] = Counter()
        self._doublings: Counter[int] = Counter()

    def add(self, num_bytes: int) -> None:
        """Count one length, 0 or more."""
        self.num_rows += 1
        self.total += num_bytes
        self.largest = max(self.largest, num_bytes)
        self._bins[round(BINS_PER_DOUBLING * log2(num_bytes)) if num_bytes else -1] += 1
        self._doublings[max(0, num_bytes.bit_length() - 1)] += 1

    def percentile(self, share: float) -> int:
        """The length that this share of the rows does not exceed; 0 where there are no rows."""
        wanted, seen = share * self.num_rows, 0
        for place in sorted(self._bins):
            seen += self._bins[place]
            if seen >= wanted:
                return min(self.largest, round(2 ** (place / BINS_PER_DOUBLING))) if place >= 0 else 0
        return self.largest

    def doublings(self) -> dict[int, int]:
        """Rows by doubling: n counts lengths from 2**n to below 2**(n + 1); an empty row counts as one byte."""
        return dict(sorted(self._doublings.items()))


def shared_range(all_lengths: Sequence[Lengths]) -> range:
    """The doublings that charts of several histograms have in common, so that they can be compared by eye."""
    places = [place for lengths in all_lengths for place in lengths.doublings()]
    return range(min(places), max(places) + 1) if places else range(0)
