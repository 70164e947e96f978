"""Rows of plain values in Parquet files, written and read a group at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from finetune.contracts.errors import DatasetError
from finetune.contracts.io import require_file

ROWS_PER_GROUP = 2_000


class ColumnFile:
    """One file; a context manager that closes it."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns: list[list[object]] = [[] for _ in schema]
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, store_schema=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()

    def add(self, *row: object) -> None:
        """Take in the values of one row, in the order of the schema."""
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        if len(self._columns[0]) == ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._columns[0]:
            arrays = [pa.array(column, field.type) for column, field in zip(self._columns, self._schema, strict=True)]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
            self._columns = [[] for _ in self._schema]


def read_columns(path: Path, names: Sequence[str] | None = None) -> Iterator[tuple[Any, ...]]:
    """The rows of a file, with these columns alone, None for all. Raises DatasetError when it is damaged."""
    with _damage(path), pq.ParquetFile(path) as file:
        # threads cost more than they save: the files are many and small
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=names, use_threads=False):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def read_table(path: Path, names: Sequence[str]) -> pa.Table:
    """Some columns of a file, whole. Raises DatasetError when it is damaged."""
    with _damage(path), pq.ParquetFile(path) as file:
        return file.read(list(names), use_threads=False)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        require_file(path)
        yield
    except (OSError, pa.ArrowInvalid) as cause:
        raise DatasetError(
            f"{path} is damaged.", f"Delete {path.parent}, then build again: it is only a cache."
        ) from cause
