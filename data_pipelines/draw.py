"""Draws that are the same on every machine and Python version: SHA-256 in counter mode over a key."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


class Draw:
    """A stream of numbers that the key alone decides."""

    def __init__(self, *key: object) -> None:
        self._key = "\0".join(map(str, key)).encode("utf-8", "surrogateescape")
        self._count = 0

    def below(self, limit: int) -> int:
        """A number in [0, limit); limit must be positive."""
        self._count += 1
        block = hashlib.sha256(self._key + b"\0%d" % self._count).digest()
        return int.from_bytes(block[:8]) % limit

    def fraction(self) -> float:
        """A number in [0, 1)."""
        return self.below(1 << 53) / (1 << 53)

    def pick(self, items: Sequence[ItemT]) -> ItemT:
        """One of the items, all equally likely."""
        return items[self.below(len(items))]

    def weighted(self, weights: Sequence[tuple[ItemT, float]]) -> ItemT:
        """One of the items by weight; the weights need not add up to one, but one must be positive."""
        mark = self.fraction() * sum(weight for _, weight in weights)
        for item, weight in weights:
            mark -= weight
            if mark < 0:
                return item
        return weights[-1][0]
