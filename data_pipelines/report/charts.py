"""Charts as numbers: the template draws them as rectangles, without a script and without a style attribute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_pipelines.report.lengths import Lengths
from data_pipelines.report.survey import NO_MONTH, SIDES

MAX_BARS = 72
MONTHS_PER_BAR = (1, 3, 6, 12, 60, 120)
PERCENTILES = (("10 %", 0.1), ("half", 0.5), ("90 %", 0.9), ("99 %", 0.99))
HEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle in percent of the chart's height, of one side of the split."""

    side: str
    top: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One column: parts from below, the label says in words what it counts."""

    label: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Rows by doubling of length, with the percentiles under it."""

    bars: tuple[Bar, ...]
    first: str
    last: str
    percentiles: tuple[tuple[str, int], ...]
    mean: int
    largest: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """Rows by the time of their commit. cut is the column in which the held-out time begins, None without such."""

    bars: tuple[Bar, ...]
    first: str
    last: str
    months_per_bar: int
    cut: int | None
    highest: int
    undated: int


def histogram(lengths: Lengths, places: range) -> Histogram:
    """A chart over the doublings in places, so that charts with equal places can be compared."""
    found = lengths.doublings()
    most = max(found.values(), default=1)
    bars = tuple(
        Bar(
            f"{size(2**place)} to {size(2 ** (place + 1))}: {found.get(place, 0):,}",
            (_part("train", 0, found.get(place, 0), most),),
        )
        for place in places
    )
    return Histogram(
        bars=bars,
        first=size(2**places.start),
        last=size(2**places.stop),
        percentiles=tuple((label, lengths.percentile(share)) for label, share in PERCENTILES),
        mean=round(lengths.total / lengths.num_rows) if lengths.num_rows else 0,
        largest=lengths.largest,
    )


def timeline(months: Mapping[str, Mapping[str, int]], cut_month: str) -> Timeline:
    """Columns from the first month to the last; cut_month is NO_MONTH when the split was not made by time."""
    dated = {_number(month): sides for month, sides in months.items() if month != NO_MONTH}
    undated = sum(months.get(NO_MONTH, {}).values())
    if not dated:
        return Timeline((), "", "", 1, None, 0, undated)
    start, stop = min(dated), max(dated) + 1
    step = next((step for step in MONTHS_PER_BAR if (stop - start) / step <= MAX_BARS), MONTHS_PER_BAR[-1])
    columns = [
        [sum(dated.get(month, {}).get(side, 0) for month in range(first, first + step)) for side in SIDES]
        for first in range(start, stop, step)
    ]
    highest = max(map(sum, columns))
    cut = (_number(cut_month) - start) // step if cut_month != NO_MONTH else None
    return Timeline(
        bars=tuple(_column(_text(start + place * step), counts, highest) for place, counts in enumerate(columns)),
        first=_text(start),
        last=_text(stop - 1),
        months_per_bar=step,
        cut=cut if cut is not None and 0 <= cut <= len(columns) else None,
        highest=highest,
        undated=undated,
    )


def size(num_bytes: int) -> str:
    """Bytes as a person writes them: 812 B, 4.1 kB, 3.2 MB, powers of ten."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= limit:
            return f"{num_bytes / limit:.1f} {unit}"
    return f"{num_bytes} B"


def _column(label: str, counts: Sequence[int], highest: int) -> Bar:
    words = ", ".join(f"{count:,} {side}" for side, count in zip(SIDES, counts, strict=True) if count)
    parts, below = [], 0
    for side, count in zip(SIDES, counts, strict=True):
        if count:
            parts.append(_part(side, below, count, highest))
            below += count
    return Bar(f"{label}: {words or 'no row'}", tuple(parts))


def _part(side: str, below: int, count: int, highest: int) -> Part:
    height = HEIGHT * count / highest
    return Part(side, round(HEIGHT - HEIGHT * below / highest - height, 2), round(height, 2))


def _number(month: str) -> int:
    year, _, place = month.partition("-")
    return int(year) * 12 + int(place) - 1


def _text(number: int) -> str:
    return f"{number // 12}-{number % 12 + 1:02d}"
