"""Byte spans: merged, looked up, and what of a target lies outside them."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import overload

import numpy as np
from numpy.typing import NDArray

from data_pipelines.document import Span

Offsets = NDArray[np.int64]


class SpanList(Sequence[Span]):
    """Many spans in two arrays: a file has thousands, of which a few are ever looked at."""

    def __init__(self, starts: Offsets, ends: Offsets) -> None:
        self.starts = starts
        self.ends = ends

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int]]) -> "SpanList":
        """From (start, end) pairs."""
        flat = np.fromiter(chain.from_iterable(spans), np.int64).reshape(-1, 2)
        return cls(flat[:, 0], flat[:, 1])

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> Span: ...
    @overload
    def __getitem__(self, place: slice) -> "SpanList": ...
    def __getitem__(self, place: int | slice) -> "Span | SpanList":
        if isinstance(place, slice):
            return SpanList(self.starts[place], self.ends[place])
        return Span(int(self.starts[place]), int(self.ends[place]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))

    def sorted_unique(self) -> "SpanList":
        """Each span once, by start and then by end; offsets must be below 2^31."""
        keys = np.sort(self.starts << 32 | self.ends)
        keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))] if len(keys) else keys
        return SpanList(keys >> 32, keys & 0xFFFFFFFF)

    def touching(self, merged: Sequence[Span]) -> NDArray[np.bool_]:
        """Which of the spans have a byte in common with one of the merged spans; there must be one of these."""
        others = SpanList.of((span.start, span.end) for span in merged)
        # of the merged spans that end behind the start the first begins before all others
        place = np.searchsorted(others.ends, self.starts, side="right")
        inside = place < len(merged)
        inside[inside] = others.starts[place[inside]] < self.ends[inside]
        return inside


def loud_before(text: bytes, silent: Sequence[Span]) -> NDArray[np.int32]:
    """For each place of the text how many bytes before it are no white space and lie in no silent span."""
    loud = np.frombuffer(text, np.uint8) > ord(" ")
    for span in silent:
        loud[span.start : span.end] = False
    before = np.zeros(len(text) + 1, np.int32)
    np.cumsum(loud, out=before[1:])
    return before


def merge(spans: Iterable[Span]) -> list[Span]:
    """The same places as sorted spans that neither touch nor overlap."""
    merged: list[Span] = []
    for span in sorted(spans, key=attrgetter("start", "end")):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def touches(merged: Sequence[Span], span: Span) -> bool:
    """Whether span and one of the merged spans have a byte in common."""
    return next(_overlapping(merged, span), None) is not None


def outside(text: bytes, span: Span, *, merged: Sequence[Span]) -> bytes:
    """The bytes of span that lie in none of the merged spans."""
    parts, place = [], span.start
    for other in _overlapping(merged, span):
        parts.append(text[place : max(place, other.start)])
        place = other.end
    return b"".join([*parts, text[place : span.end]])


def trim(text: bytes, span: Span) -> Span:
    """span without the white space at its ends."""
    code = text[span.start : span.end]
    start = span.start + len(code) - len(code.lstrip())
    return Span(start, max(start, span.start + len(code.rstrip())))


def _overlapping(merged: Sequence[Span], span: Span) -> Iterator[Span]:
    place = max(0, bisect_right(merged, span.start, key=lambda other: other.start) - 1)
    while place < len(merged) and merged[place].start < span.end:
        if merged[place].end > span.start:
            yield merged[place]
        place += 1
