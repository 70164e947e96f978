"""Context for infill: files of the same repository that a file imports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_pipelines.config import InfillSection
from data_pipelines.document import Document, Units
from data_pipelines.extract.base import Extractor
from data_pipelines.mine.row import Source, line_range
from data_pipelines.spool import Spool


@dataclass(frozen=True, slots=True)
class ContextFile:
    """What a row shows of another file; lines are the first and the last of each piece of it, 1-based, inclusive."""

    document: Source
    text: bytes
    lines: tuple[tuple[int, int], ...]


class ContextFinder:
    """Looks up imports among the documents that a row may show: no twin of the file itself is among its context."""

    def __init__(self, documents: Mapping[str, Document], clusters: Sequence[int], spool: Spool) -> None:
        self._documents = documents
        self._clusters = clusters
        self._spool = spool

    def imported(
        self, document: Document, units: Units, *, extractor: Extractor, section: InfillSection
    ) -> list[ContextFile]:
        """The first of the files that document imports, in the order of its imports."""
        found: dict[str, Document] = {}
        for name in units.imports:
            if len(found) == section.max_context_files:
                break
            for path in extractor.module_paths(name, document.path):
                other = self._documents.get(path)
                if other is not None and self._clusters[other.unit] != self._clusters[document.unit]:
                    found.setdefault(other.path, other)
                    break
        heads = ((other, head_of(self._spool.read(other.text), section.max_context_bytes)) for other in found.values())
        return [ContextFile(other, head, (line_range(head, 0, len(head)),)) for other, head in heads]


def head_of(text: bytes, max_bytes: int) -> bytes:
    """The first lines of text in at most max_bytes; the beginning of the first line when that alone is longer."""
    if len(text) <= max_bytes:
        return text
    end = text.rfind(b"\n", 0, max_bytes) + 1
    return text[:end] if end else text[:max_bytes].decode("utf-8", "ignore").encode("utf-8")
