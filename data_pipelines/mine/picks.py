"""What of a file becomes rows, as far as the file alone decides it: a small record, cached by content."""

import json
import struct
from dataclasses import dataclass
from typing import Self

from data_pipelines.document import FunctionUnit, NamedFunction, Span, Stratum

# raised whenever equal texts may give other picks or other bytes
VERSION = 1
HEAD = struct.Struct("<BI")


@dataclass(frozen=True, slots=True)
class Gap:
    """A span to be written by the model, and how it was found."""

    span: Span
    stratum: Stratum


@dataclass(frozen=True, slots=True)
class CaseUnit:
    """A test in a file: its name or title as written, and its span in whole lines."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Picks:
    """Spans are byte offsets in the text that was picked from; hashes are those of mine/words.py.

    infill, repo_infill and search_replace are gaps of the tasks of these names; docstring and describe hold functions
    that qualify. named are all functions, types the classes and the like with the span of their first line; cases the
    tests. imports are names as written. words are hashes of the identifiers. cuts are where pretrain divides a file
    that is larger than a row, none for others. num_bytes is the size of the text.
    """

    num_bytes: int
    infill: tuple[Gap, ...] = ()
    repo_infill: tuple[Gap, ...] = ()
    search_replace: tuple[Gap, ...] = ()
    docstring: tuple[FunctionUnit, ...] = ()
    describe: tuple[FunctionUnit, ...] = ()
    named: tuple[NamedFunction, ...] = ()
    types: tuple[NamedFunction, ...] = ()
    cases: tuple[CaseUnit, ...] = ()
    imports: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()
    words: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """Equal picks give equal bytes: a version, JSON, and the words as 32-bit numbers."""
        fields = [
            self.num_bytes,
            *[_gaps(gaps) for gaps in (self.infill, self.repo_infill, self.search_replace)],
            *[list(map(_flat, units)) for units in (self.docstring, self.describe)],
            *[[(item.name, item.whole.start, item.whole.end) for item in items] for items in (self.named, self.types)],
            [(case.name, case.span.start, case.span.end) for case in self.cases],
            self.imports,
            self.cuts,
        ]
        text = json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode("ascii")
        return HEAD.pack(VERSION, len(text)) + text + struct.pack(f"<{len(self.words)}I", *self.words)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What to_bytes wrote. Raises ValueError for anything else, also for the bytes of another version."""
        try:
            version, length = HEAD.unpack_from(content)
            if version != VERSION:
                raise ValueError(f"picks of version {version}, wanted {VERSION}")
            fields = json.loads(content[HEAD.size : HEAD.size + length])
            words = struct.unpack(f"<{(len(content) - HEAD.size - length) // 4}I", content[HEAD.size + length :])
            return cls(
                num_bytes=fields[0],
                infill=_read_gaps(fields[1]),
                repo_infill=_read_gaps(fields[2]),
                search_replace=_read_gaps(fields[3]),
                docstring=tuple(_unit(*row) for row in fields[4]),
                describe=tuple(_unit(*row) for row in fields[5]),
                named=_read_named(fields[6]),
                types=_read_named(fields[7]),
                cases=tuple(CaseUnit(name, Span(start, end)) for name, start, end in fields[8]),
                imports=tuple(fields[9]),
                cuts=tuple(fields[10]),
                words=words,
            )
        except (struct.error, TypeError, IndexError) as cause:
            raise ValueError(f"these bytes hold no picks: {cause}") from cause


def _gaps(gaps: tuple[Gap, ...]) -> list[tuple[int, int, str]]:
    return [(gap.span.start, gap.span.end, gap.stratum.value) for gap in gaps]


def _read_gaps(rows: list[tuple[int, int, str]]) -> tuple[Gap, ...]:
    return tuple(Gap(Span(start, end), Stratum(stratum)) for start, end, stratum in rows)


def _read_named(rows: list[tuple[str, int, int]]) -> tuple[NamedFunction, ...]:
    return tuple(NamedFunction(name, Span(start, end)) for name, start, end in rows)


def _flat(unit: FunctionUnit) -> tuple[str | int, ...]:
    ends = (unit.whole.start, unit.whole.end, unit.doc.start, unit.doc.end)
    return (unit.name, *ends, unit.head_end, unit.body_start, unit.body_end, unit.doc_chars, int(unit.is_stub))


def _unit(name: str, *numbers: int) -> FunctionUnit:
    start, end, doc_start, doc_end, head_end, body_start, body_end, doc_chars, is_stub = numbers
    return FunctionUnit(
        name, Span(start, end), Span(doc_start, doc_end), head_end, body_start, body_end, doc_chars, bool(is_stub)
    )
