"""What the leakage gate must know of rows, written beside them: of train what it teaches, of held-out what it asks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from data_pipelines.dedup.shingles import Places, Words64
from data_pipelines.sinks.columns import ColumnFile, read_table
from data_pipelines.split.grams import among, runs_of, write_words
from data_pipelines.split.leakage import Marks, Train

KINDS = ("runs", "functions", "changes")
WORDS = pa.list_(pa.uint64())
ROW_SCHEMA = pa.schema([("id", pa.string()), ("runs", WORDS), ("functions", WORDS), ("changes", WORDS)])
ROWS_NAME = "asked.parquet"
# texts whose runs are hashed at once: what comes of them stays in a core's cache
BATCH_BYTES = 1 << 17


def words_name(kind: str) -> str:
    """The file of one kind of train marks."""
    return f"taught-{kind}.words"


class TaughtFiles:
    """Marks of a part's train rows; a context manager that writes them sorted, each once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, list[Words64]] = {kind: [] for kind in KINDS}
        self._texts: set[bytes] = set()
        self._text_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._hash_texts()
            for name, arrays in self._held.items():
                write_words(self._folder / words_name(name), arrays)

    def add(self, marks: Marks) -> None:
        """Take in what a row or a file teaches beside its texts."""
        for kind in KINDS:
            self._held[kind].append(getattr(marks, kind))

    def add_texts(self, texts: Iterable[bytes]) -> None:
        """Take in texts whose runs a row or a file teaches. Rows of one file show the same texts again and again."""
        for text in texts:
            if text not in self._texts:
                self._texts.add(text)
                self._text_bytes += len(text)
        if self._text_bytes >= BATCH_BYTES:
            self._hash_texts()

    def _hash_texts(self) -> None:
        if self._texts:
            self._held["runs"].append(runs_of(list(self._texts)))
            self._texts, self._text_bytes = set(), 0


class AskedFile:
    """Marks of a part's held-out rows, in their order; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._columns = ColumnFile(folder / ROWS_NAME, ROW_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._columns.__exit__(kind, error, trace)

    def add(self, row_id: str, marks: Marks) -> None:
        """Take in what a row asks."""
        self._columns.add(row_id, *(getattr(marks, kind) for kind in KINDS))


@dataclass(frozen=True, slots=True)
class Asked:
    """What the held-out rows of a part ask: of each kind the words of one row after the other, and where each ends."""

    ids: Sequence[str]
    words: Mapping[str, Words64]
    ends: Mapping[str, Places]

    def sizes(self, kind: str) -> Places:
        """How many words of a kind each row has."""
        return np.diff(self.ends[kind], prepend=0)

    def num_known(self, kind: str, known_words: Words64) -> Places:
        """How many of each row's words are among the sorted known ones."""
        found = np.concatenate([[0], np.cumsum(among(self.words[kind], known_words))])
        return np.diff(found[self.ends[kind]], prepend=0)

    def marks(self, row: int) -> Marks:
        """What one row asks."""
        return Marks(*(self._of_row(kind, row) for kind in KINDS))

    def _of_row(self, kind: str, row: int) -> Words64:
        ends = self.ends[kind]
        # a copy, so that the words of all rows are not kept for one
        return self.words[kind][ends[row - 1] if row else 0 : ends[row]].copy()


def read_asked(folder: Path) -> Asked:
    """What the held-out rows of a part ask."""
    table = read_table(folder / ROWS_NAME, ROW_SCHEMA.names)
    ends = {kind: np.cumsum(_sizes(table, kind), dtype=np.intp) for kind in KINDS}
    return Asked(table.column("id").to_pylist(), {kind: _words(table, kind) for kind in KINDS}, ends)


def asked_words(folder: Path, kind: str) -> Words64:
    """What the held-out rows of a part ask of one kind, in no order."""
    return _words(read_table(folder / ROWS_NAME, [kind]), kind)


def train_files(folders: list[Path]) -> Train:
    """The marks of the train rows of all parts."""
    runs, functions, changes = ([folder / words_name(kind) for folder in folders] for kind in KINDS)
    return Train(runs, functions, changes)


def _words(table: pa.Table, kind: str) -> Words64:
    return np.concatenate(
        [np.zeros(0, np.uint64), *(lists.flatten().to_numpy() for lists in table.column(kind).chunks)]
    )


def _sizes(table: pa.Table, kind: str) -> Places:
    lists = table.column(kind).chunks
    return np.concatenate([np.zeros(0, np.intp), *(np.diff(chunk.offsets.to_numpy()) for chunk in lists)])
