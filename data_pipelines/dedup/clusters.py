"""Near-duplicate clusters: union-find over pairs whose exact Jaccard was verified, never over shared bands alone."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from data_pipelines.dedup.minhash import bands, signature
from data_pipelines.dedup.shingles import Words64, jaccard, shingles
from data_pipelines.document import Handle
from data_pipelines.spool import Spool

# in a band with more members than this each is compared with the first and the one before it, not with all
ALL_PAIRS_BELOW = 16


class NearIndex:
    """Texts are added one by one and get a unit number; clusters are computed once at the end."""

    def __init__(self, spool: Spool, *, threshold: float) -> None:
        self._spool = spool
        self._threshold = threshold
        self._bands: list[Words64] = []
        self._shingles: list[Handle] = []

    def add(self, text: bytes) -> int:
        """Take in a text; returns its unit number, counted from 0."""
        found = shingles(text)
        self._bands.append(bands(signature(found)))
        self._shingles.append(self._spool.append(found.tobytes()))
        return len(self._bands) - 1

    def clusters(self) -> list[int]:
        """For each unit the least unit number of its cluster."""
        parent = list(range(len(self._bands)))
        for one, other in _candidates(self._bands):
            left, right = find(parent, one), find(parent, other)
            if left != right and jaccard(self._read(one), self._read(other)) >= self._threshold:
                parent[max(left, right)] = min(left, right)
        return [find(parent, unit) for unit in range(len(parent))]

    def _read(self, unit: int) -> Words64:
        return np.frombuffer(self._spool.read(self._shingles[unit]), np.uint64)


def find(parent: list[int], unit: int) -> int:
    """The root of a unit, with path halving."""
    while parent[unit] != unit:
        parent[unit] = parent[parent[unit]]
        unit = parent[unit]
    return unit


def _candidates(rows: Sequence[Words64]) -> Iterator[tuple[int, int]]:
    if not rows:
        return
    table = np.stack(rows)
    for column in range(table.shape[1]):
        order = np.argsort(table[:, column], kind="stable")
        values = table[order, column]
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        for start, end in zip(starts, np.r_[starts[1:], len(values)], strict=True):
            if end - start > 1:
                yield from _pairs([int(unit) for unit in order[start:end]])


def _pairs(members: list[int]) -> Iterator[tuple[int, int]]:
    if len(members) <= ALL_PAIRS_BELOW:
        for place, one in enumerate(members):
            for other in members[place + 1 :]:
                yield one, other
    else:
        for before, unit in pairwise(members):
            yield members[0], unit
            yield before, unit
