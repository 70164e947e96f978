"""Files to be read as they are, several to a row, each part of a file its own learned segment."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from data_pipelines.document import NamedFunction
from data_pipelines.mine.infill import boundary
from data_pipelines.mine.row import Row, Source, line_range, provenance_of
from finetune.contracts.dataset import Role, Segment, Task


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes [start, end) of the file at path."""

    path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PartText:
    """A part with its file and the whole text of it."""

    file: Source
    text: bytes
    start: int
    end: int


def cut_places(text: bytes, *, named: Sequence[NamedFunction], max_bytes: int) -> tuple[int, ...]:
    """Where a text larger than max_bytes is cut so that no part is larger; none for others.

    A cut lies above the last function that begins in the second half of what fits, else at the last line that fits,
    else between two characters.
    """
    starts = sorted({text.rfind(b"\n", 0, function.whole.start) + 1 for function in named})
    cuts: list[int] = []
    start, place = 0, 0
    while len(text) - start > max_bytes:
        limit, best = start + max_bytes, 0
        while place < len(starts) and starts[place] <= limit:
            best = starts[place]
            place += 1
        if best <= start + max_bytes // 2:
            best = text.rfind(b"\n", start, limit) + 1
        start = best if best > start else boundary(text, limit)
        cuts.append(start)
    return tuple(cuts)


def parts_of(path: str, num_bytes: int, cuts: Sequence[int]) -> list[Part]:
    """A file as its parts; together they are the file."""
    borders = [0, *cuts, num_bytes]
    return [Part(path, start, end) for start, end in pairwise(borders)]


def pack(parts: Iterable[Part], *, max_bytes: int) -> Iterator[tuple[Part, ...]]:
    """The parts in their order, as many to a row as max_bytes hold; none is larger than max_bytes itself."""
    row: list[Part] = []
    size = 0
    for part in parts:
        if row and size + part.end - part.start > max_bytes:
            yield tuple(row)
            row, size = [], 0
        row.append(part)
        size += part.end - part.start
    if row:
        yield tuple(row)


def pretrain_row(parts: Sequence[PartText]) -> Row:
    """The row of parts of one repository and one language; there must be one at least."""
    first = parts[0].file
    return Row(
        task=Task.PRETRAIN,
        language=first.language,
        stratum="",
        segments=tuple(
            Segment(
                role=Role.TARGET, text=part.text[part.start : part.end].decode("utf-8"), path=part.file.path, loss=True
            )
            for part in parts
        ),
        provenance=tuple(provenance_of(part.file, line_range(part.text, part.start, part.end)) for part in parts),
        spans=tuple(place for part in parts for place in (part.start, part.end)),
        visibility=first.visibility,
    )
