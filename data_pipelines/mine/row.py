"""Examples from segments: ids, provenance with lines, counts of placeholders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from data_pipelines.document import Origin
from data_pipelines.redact.redactor import count_placeholders
from finetune.contracts.dataset import Example, Provenance, Segment, Split, Task
from finetune.contracts.io import digest_json

BUILDER = "data_pipelines/1"
ID_CHARS = 32


class Source(Protocol):
    """What a row must know of the file that it comes from; Document is one."""

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

    def example(self, split: Split, cluster: str) -> Example:
        """The row as it is written."""
        return Example(
            id=self._id(),
            task=self.task,
            language=self.language,
            stratum=self.stratum,
            segments=self.segments,
            provenance=self.provenance,
            split=split,
            cluster=cluster,
            redactions=sum(count_placeholders(segment.text) for segment in self.segments),
            visibility=self.visibility,
        )

    def _id(self) -> str:
        places: list[JsonValue] = [row.model_dump(mode="json") for row in self.provenance]
        return digest_json([BUILDER, self.task, self.stratum, list(self.spans), places])[:ID_CHARS]


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
