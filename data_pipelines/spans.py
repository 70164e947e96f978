"""Byte spans: merged, looked up, and what of a target lies outside them."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from data_pipelines.document import Span


def merge(spans: Iterable[Span]) -> list[Span]:
    """The same places as sorted spans that neither touch nor overlap."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
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
