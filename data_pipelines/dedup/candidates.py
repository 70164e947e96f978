"""Which texts are worth comparing: those that share a band and are not in one cluster already."""

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_pipelines.dedup.shingles import Words64

Positions = NDArray[np.int32]
# in a bucket with more members each is compared with the first and the one before it, not with all
ALL_PAIRS_UP_TO: Final = 16


def buckets(hashes: Words64, roots: Positions) -> Iterator[list[int]]:
    """Positions, ascending, of equal hashes; buckets whose members have one root already are left out."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    if not len(hashes):
        return
    in_order = roots[order]
    mixed = np.minimum.reduceat(in_order, starts) != np.maximum.reduceat(in_order, starts)
    ends = np.append(starts[1:], len(hashes))
    for start, end in zip(starts[mixed].tolist(), ends[mixed].tolist(), strict=True):
        yield order[start:end].tolist()


def pairs(members: list[int]) -> Iterator[tuple[int, int]]:
    """The pairs of a bucket that are compared, the smaller position first when members ascend."""
    if len(members) <= ALL_PAIRS_UP_TO:
        yield from combinations(members, 2)
        return
    for before, member in pairwise(members):
        yield members[0], member
        if before != members[0]:
            yield before, member
