"""Examples into one Parquet file, column by column: its bytes depend on the rows alone."""

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.mine.row import Row, learned_bytes, row_id, whole_bytes
from data_pipelines.redact.redactor import count_placeholders
from data_pipelines.sinks.columns import ColumnFile, read_columns
from data_pipelines.sinks.parquet import EXAMPLE_SCHEMA, PROVENANCE, SEGMENT
from finetune.contracts.dataset import Slice, Split, Task

ROWS_PER_GROUP = 256
ZSTD_LEVEL = 3
SEGMENT_VALUES = attrgetter(*[field.name for field in SEGMENT])
PROVENANCE_VALUES = attrgetter(*[field.name for field in PROVENANCE])
# an enum looks its members up by value ten times slower
TASKS = {task.value: task for task in Task}
SLICES: dict[str | None, Slice | None] = {None: None, **{part.value: part for part in Slice}}

WRITTEN_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("repo", pa.string()),
        ("task", pa.string()),
        ("language", pa.string()),
        ("slice", pa.string()),
        ("learned_bytes", pa.int64()),
        ("whole_bytes", pa.int64()),
        ("stratum", pa.string()),
        ("visibility", pa.string()),
        ("redactions", pa.int64()),
        ("license", pa.string()),
        ("committed_at", pa.int64()),
    ]
)


class WrittenRow(NamedTuple):
    """What the end of a build and its report must know of a row that was written: all but its texts.

    repo, license and committed_at are those of its first file, "" and 0 if there is none.
    """

    id: str
    repo: str
    task: Task
    language: str
    slice: Slice | None
    learned_bytes: int
    whole_bytes: int
    stratum: str
    visibility: str
    redactions: int
    license: str
    committed_at: int


def read_written(folder: Path, split: Split) -> list[WrittenRow]:
    """The rows of one split of a part, in their order."""
    return [
        WrittenRow(row_id, repo, TASKS[task], language, SLICES[part], *facts)
        for row_id, repo, task, language, part, *facts in read_columns(folder / f"{split}-rows.parquet")
    ]


class ExampleFile:
    """Rows of one split of a part, with their WrittenRows beside; a context manager."""

    def __init__(self, folder: Path, split: Split) -> None:
        self._path = folder / f"{split}.parquet"
        self._split = split
        self._written = ColumnFile(folder / f"{split}-rows.parquet", WRITTEN_SCHEMA)
        self._writer: pq.ParquetWriter | None = None
        self._plain: list[tuple[Any, ...]] = []
        self._segments: list[tuple[Any, ...]] = []
        self._segment_ends = [0]
        self._places: list[tuple[Any, ...]] = []
        self._place_ends = [0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        self._written.__exit__(kind, error, trace)

    def add(self, row: Row, *, slice_: Slice | None, cluster: str) -> str:
        """Take in a row; returns its id."""
        redactions = sum(count_placeholders(segment.text) for segment in row.segments)
        self._segments.extend(map(SEGMENT_VALUES, row.segments))
        self._places.extend(map(PROVENANCE_VALUES, row.provenance))
        self._segment_ends.append(len(self._segments))
        self._place_ends.append(len(self._places))
        values = (row.task, row.language, row.stratum, self._split, cluster, redactions, row.visibility, slice_)
        name = row_id(row)
        self._plain.append((name, *values))
        learned, whole = learned_bytes(row.segments), whole_bytes(row.segments)
        first = row.provenance[0]
        facts = (learned, whole, row.stratum, row.visibility, redactions, first.license or "", first.committed_at)
        self._written.add(name, first.repo, row.task, row.language, slice_, *facts)
        if len(self._plain) == ROWS_PER_GROUP:
            self._flush()
        return name

    def _flush(self) -> None:
        if not self._plain:
            return
        ids, tasks, languages, strata, splits, clusters, redactions, visibilities, slices = map(
            list, zip(*self._plain, strict=True)
        )
        columns = {
            "id": ids,
            "task": tasks,
            "language": languages,
            "stratum": strata,
            "segments": _nested(self._segments, self._segment_ends, SEGMENT),
            "provenance": _nested(self._places, self._place_ends, PROVENANCE),
            "split": splits,
            "cluster": clusters,
            "redactions": redactions,
            "visibility": visibilities,
            "slice": slices,
        }
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, EXAMPLE_SCHEMA.field(name).type)
            for name, column in columns.items()
        ]
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path, EXAMPLE_SCHEMA, compression="zstd", compression_level=ZSTD_LEVEL, store_schema=False
            )
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=EXAMPLE_SCHEMA))
        self._plain = []
        self._segments, self._segment_ends = [], [0]
        self._places, self._place_ends = [], [0]


def _nested(rows: Sequence[tuple[Any, ...]], ends: Sequence[int], kind: pa.StructType) -> pa.Array:
    arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), kind, strict=True)]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.StructArray.from_arrays(arrays, fields=list(kind)))
