"""Near-duplicate clusters on disk: union over pairs whose exact Jaccard was verified, never over shared bands alone.

What grows with the number of texts and is held in memory: some numbers per text. Bands lie in SQLite, texts are read
again for the pairs that are compared.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from data_pipelines.dedup.candidates import Positions, buckets, pairs
from data_pipelines.dedup.recent import RecentShingles
from data_pipelines.dedup.shingles import jaccard
from data_pipelines.dedup.store import BandStore, Units

Read = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Clusters:
    """Three arrays of one length, by ascending unit; where units are 0, 1, 2 ... they are indexed by unit.

    representatives: the least unit of the cluster; every member is a twin of it. For weights, and to drop twins.
    components: the least unit that can be reached over twins of twins. For the split: no verified pair of twins lies
    across two components, while a member that left its cluster may still be a twin of one that stayed.
    """

    units: Units
    representatives: Units
    components: Units


class NearTable:
    """Units are texts numbered in the order first seen, so that representatives stay as texts are added.

    A number stands for one text for ever: what was compared is kept in the file, and a later run compares only what is
    new. path None keeps everything in a private temporary file. A context manager; what was added is kept once the
    block ends without an error. Raises DatasetError on a file that is damaged or of another signature version.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._store = BandStore(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._store.commit()
        finally:
            self._store.close()

    def add(self, unit: int, bands: bytes) -> None:
        """Take in a text by what minhash.bands_of gave; a unit that is there already stays as it is."""
        self._store.add(unit, bands)

    def remove(self, units: Iterable[int]) -> None:
        """Forget texts that are gone; unknown units are no error."""
        self._store.remove(units)

    def offer(self, pairs: Iterable[tuple[int, int, float]]) -> None:
        """Similarities that are known from elsewhere, the smaller number first: such pairs are not compared again."""
        self._store.keep_all(pairs)

    def compared(self) -> Iterator[tuple[int, int, float]]:
        """Every pair that was compared or offered, the smaller number first."""
        return self._store.pairs()

    def clusters(self, read: Read, *, threshold: float) -> Clusters:
        """Compare what shares a band, and cluster all units; read gives the text of a unit.

        threshold is the least Jaccard similarity of twins, above 0; at 1.0 only equal texts are twins, byte by byte.
        The result depends on the numbers and texts alone, not on the order in which they were added.
        """
        units = self._store.units()
        found = self._equal(units, read) if threshold >= 1.0 else self._near(units, read, threshold)
        self._store.commit()
        return found

    def _equal(self, units: Units, read: Read) -> Clusters:
        first = np.arange(len(units), dtype=np.int32)
        # equal texts share every band
        hashes = next(self._store.columns())
        for members in buckets(hashes, first.copy()):
            seen: dict[bytes, int] = {}
            for member in members:
                first[member] = seen.setdefault(hashlib.sha256(read(int(units[member]))).digest(), member)
        return Clusters(units, units[first], units[first])

    def _near(self, units: Units, read: Read, threshold: float) -> Clusters:
        twins = _Twins(self._store, RecentShingles(read), threshold)
        representatives = units.copy()
        components: Units | None = None
        pending: Units | None = None
        while pending is None or len(pending):
            members = units if pending is None else pending
            roots = self._join(members, twins, all_units=pending is None)
            heads = members[roots]
            if components is None:
                components = heads
            leaves = _leavers(members, heads, twins)
            representatives[np.searchsorted(units, members[~leaves])] = heads[~leaves]
            pending = members[leaves]
        assert components is not None
        return Clusters(units, representatives, components)

    def _join(self, units: Units, twins: "_Twins", *, all_units: bool) -> Positions:
        """For each unit the position of the least one that it is connected to over twins."""
        parent = array("i", range(len(units)))
        view = np.frombuffer(parent, np.int32) if units.size else np.zeros(0, np.int32)
        for hashes in self._store.columns(None if all_units else units):
            for members in buckets(hashes, _roots(view)):
                for one, other in pairs(members):
                    left, right = find(parent, one), find(parent, other)
                    if left != right and twins.are(int(units[one]), int(units[other])):
                        parent[max(left, right)] = min(left, right)
        return _roots(view)


class _Twins:
    """Whether two units are twins, from what is known or by reading both."""

    def __init__(self, store: BandStore, texts: RecentShingles, threshold: float) -> None:
        self._store = store
        self._texts = texts
        self._threshold = threshold

    def are(self, one: int, other: int) -> bool:
        """one must be smaller than other."""
        similarity = self._store.similarity(one, other)
        if similarity is None:
            similarity = jaccard(self._texts.of(one), self._texts.of(other))
            self._store.keep(one, other, similarity)
        return similarity >= self._threshold


def find(parent: "array[int]", unit: int) -> int:
    """The root of a unit, with path halving."""
    while parent[unit] != unit:
        parent[unit] = parent[parent[unit]]
        unit = parent[unit]
    return unit


def _roots(parent: Positions) -> Positions:
    roots = parent.copy()
    while not np.array_equal(above := roots[roots], roots):
        roots = above
    return roots


def _leavers(units: Units, heads: Units, twins: _Twins) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which units are no twins of the head of their cluster; by head, so that its shingles are read once."""
    leaves = np.zeros(len(units), np.bool_)
    for place in np.argsort(heads, kind="stable").tolist():
        one, other = int(heads[place]), int(units[place])
        leaves[place] = one != other and not twins.are(one, other)
    return leaves
