"""Parquet whose bytes depend on the rows alone: fixed schema, row groups, compression; no time, no host."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.mine.row import learned_bytes
from finetune.contracts.dataset import DROPPED_NAME, CountRow, DroppedFile, Example, ReasonCount, Shard, Split, Task
from finetune.contracts.io import digest_file

ROWS_PER_GROUP = 256
ROWS_PER_SHARD = 20_000
ZSTD_LEVEL = 3

SEGMENT = pa.struct([("role", pa.string()), ("text", pa.string()), ("path", pa.string()), ("loss", pa.bool_())])
PROVENANCE = pa.struct(
    [
        ("repo", pa.string()),
        ("commit", pa.string()),
        ("path", pa.string()),
        ("blob", pa.string()),
        ("first_line", pa.int64()),
        ("last_line", pa.int64()),
        ("author", pa.string()),
        ("committed_at", pa.int64()),
        ("license", pa.string()),
    ]
)
EXAMPLE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("language", pa.string()),
        ("stratum", pa.string()),
        ("segments", pa.list_(SEGMENT)),
        ("provenance", pa.list_(PROVENANCE)),
        ("split", pa.string()),
        ("cluster", pa.string()),
        ("redactions", pa.int64()),
        ("visibility", pa.string()),
        ("slice", pa.string()),
    ]
)
DROPPED_SCHEMA = pa.schema(
    [
        ("repo", pa.string()),
        ("commit", pa.string()),
        ("path", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("bytes", pa.int64()),
        ("twin", pa.string()),
    ]
)


class RowFile:
    """One Parquet file, written a row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.num_rows = 0
        self._schema = schema
        self._pending: list[Mapping[str, Any]] = []
        self._stream = path.open("wb")
        self._writer = pq.ParquetWriter(
            self._stream, schema, compression="zstd", compression_level=ZSTD_LEVEL, store_schema=False
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in a row whose keys are the columns."""
        self._pending.append(row)
        self.num_rows += 1
        if len(self._pending) == ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is pending and the footer."""
        self._flush()
        self._writer.close()
        self._stream.close()

    def abandon(self) -> None:
        """Let go of the file after an error; what a full disk refuses now is no news."""
        for part in (self._writer, self._stream):
            with suppress(OSError, ValueError):
                part.close()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_pylist(self._pending, schema=self._schema))
            self._pending = []


class DropLog:
    """Files, commits and rows that were left out: a row each in dropped.parquet, counts by reason for the manifest."""

    def __init__(self, folder: Path) -> None:
        self._file = RowFile(folder / DROPPED_NAME, DROPPED_SCHEMA)
        self._counts: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._file.close()
        else:
            self._file.abandon()

    def add(self, row: DroppedFile) -> None:
        """Note one file or commit."""
        self._file.add(row.model_dump(mode="json"))
        self._counts[row.stage, row.reason] += 1

    def count(self, stage: str, reason: str, number: int = 1) -> None:
        """Note rows that were left out without naming them one by one."""
        if number:
            self._counts[stage, reason] += number

    def counts(self) -> tuple[ReasonCount, ...]:
        """Counts in the order of stage and reason."""
        return reason_counts(self._counts)


def reason_counts(counts: Mapping[tuple[str, str], int]) -> tuple[ReasonCount, ...]:
    """Counter entries as contract rows, sorted."""
    return tuple(ReasonCount(stage=stage, reason=why, count=count) for (stage, why), count in sorted(counts.items()))


class ShardSink:
    """Examples into shards named <split>-NNNNN.parquet, with counts; a context manager that lets go after an error."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[Split, RowFile] = {}
        self._closed: list[tuple[Split, RowFile]] = []
        self._rows: Counter[tuple[Task, Split, str]] = Counter()
        self._bytes: Counter[tuple[Task, Split, str]] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._open.values():
            file.abandon()

    def add(self, example: Example) -> None:
        """Write one example to its split's shard."""
        shard = self._open.get(example.split) or self._new(example.split)
        shard.add(example.model_dump(mode="json"))
        key = (example.task, example.split, example.language)
        self._rows[key] += 1
        self._bytes[key] += learned_bytes(example.segments)
        if shard.num_rows == ROWS_PER_SHARD:
            self._close(example.split)

    def finish(self) -> tuple[Shard, ...]:
        """Close every shard; their records in name order."""
        for split in list(self._open):
            self._close(split)
        records = [
            Shard(name=file.path.name, split=split, examples=file.num_rows, sha256=digest_file(file.path))
            for split, file in self._closed
        ]
        return tuple(sorted(records, key=lambda shard: shard.name))

    def counts(self) -> tuple[CountRow, ...]:
        """Examples and learned bytes, sorted by task, split and language."""
        return tuple(
            CountRow(task=task, split=split, language=language, examples=count, loss_bytes=self._bytes[key])
            for key, count in sorted(self._rows.items())
            for task, split, language in [key]
        )

    def _new(self, split: Split) -> RowFile:
        number = sum(done is split for done, _ in self._closed)
        self._open[split] = RowFile(self._folder / f"{split}-{number:05d}.parquet", EXAMPLE_SCHEMA)
        return self._open[split]

    def _close(self, split: Split) -> None:
        file = self._open.pop(split)
        file.close()
        self._closed.append((split, file))
