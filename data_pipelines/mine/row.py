"""Examples from segments: ids, provenance with lines, counts of placeholders."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from data_pipelines.document import Origin
from finetune.contracts.dataset import Provenance, Segment, Task

BUILDER = "data_pipelines/2"
ID_CHARS = 32


class Source(Protocol):
    """What a row must know of the file that it comes from; rows.SourceFile is one."""

    @property
    def repo(self) -> str: ...

    @property
    def visibility(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def blob(self) -> str: ...

    @property
    def language(self) -> str: ...

    @property
    def origin(self) -> Origin: ...

    @property
    def license(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """What a miner found; the pipeline adds split and cluster. spans tells rows of one file apart (bytes, or names)."""

    task: Task
    language: str
    stratum: str
    segments: tuple[Segment, ...]
    provenance: tuple[Provenance, ...]
    spans: tuple[int, ...]
    visibility: str


def row_id(row: Row) -> str:
    """A digest of task, provenance and spans: equal input gives equal ids, whatever else is in a dataset."""
    state = blake2b(digest_size=ID_CHARS // 2)
    head = (BUILDER, row.task, row.stratum, *row.spans)
    for place in row.provenance:
        head += (place.repo, place.commit, place.path, place.blob, place.first_line, place.last_line)
    state.update("\0".join(map(str, head)).encode("utf-8", "surrogateescape"))
    return state.hexdigest()


def provenance_of(document: Source, lines: tuple[int, int]) -> Provenance:
    """Where a row's text of a document came from; lines are the first and the last, 1-based and inclusive."""
    return provenance(
        document.repo,
        document.origin,
        path=document.path,
        blob=document.blob,
        lines=lines,
        license_name=document.license,
    )


def provenance(
    repo: str, origin: Origin, *, path: str, blob: str, lines: tuple[int, int], license_name: str | None
) -> Provenance:
    """A Provenance of one file at the commit that gave it its content."""
    return Provenance(
        repo=repo,
        commit=origin.commit,
        path=path,
        blob=blob,
        first_line=lines[0],
        last_line=lines[1],
        author=origin.author,
        committed_at=origin.time,
        license=license_name,
    )


def line_range(text: bytes, start: int, end: int) -> tuple[int, int]:
    """First and last line, 1-based and inclusive, of text[start:end]."""
    first = text.count(b"\n", 0, start) + 1
    return first, first + text.count(b"\n", start, max(start, end - 1))


def learned_bytes(segments: Sequence[Segment]) -> int:
    """UTF-8 bytes of the segments that are learned."""
    return sum(len(segment.text.encode("utf-8")) for segment in segments if segment.loss)


def whole_bytes(segments: Sequence[Segment]) -> int:
    """UTF-8 bytes of all segments."""
    return sum(len(segment.text.encode("utf-8")) for segment in segments)
