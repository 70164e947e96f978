"""What an earlier build of the same dataset decided, so that no row ever moves from held out to train."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from finetune.contracts.errors import DatasetError
from finetune.contracts.io import disk_errors

SPLIT_NAME = "split.parquet"
ROWS_PER_GROUP = 65_536
ZSTD_LEVEL = 3
_CUTOFF = b"cutoff_at"
_SCHEMA = pa.schema([("key", pa.string()), ("slice", pa.string())])


class Decision(StrEnum):
    """What a build decided about a key: held out under a slice, or left out because its cluster is novel."""

    NOVEL = "novel"
    EVOLVING = "evolving"
    LEFT_OUT = "left_out"


@dataclass(frozen=True, slots=True)
class Sticky:
    """Keys that must never be trained on, and the cut-off in seconds since 1970; None if there was no cut in time.

    A key is the SHA-256 of a redacted text, or "repo:commit" of an edit. Keys stay when what they name is gone: content
    that was taken out and comes back is held out again.
    """

    decided: Mapping[str, Decision] = field(default_factory=dict)
    cutoff_at: int | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The decisions in a dataset folder; none when there is no such folder or file. Raises DatasetError."""
        path = folder / SPLIT_NAME
        if not path.is_file():
            return cls()
        try:
            with pq.ParquetFile(path) as file:
                decided = dict(_decisions(file))
                cutoff = (file.schema_arrow.metadata or {}).get(_CUTOFF, b"")
            return cls(decided, int(cutoff) if cutoff else None)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise DatasetError(
                f"{path} is damaged: what earlier builds held out cannot be told ({error}).",
                "Put the file back from a copy of the dataset, or build into a new folder with another --out.",
            ) from error

    def write(self, folder: Path) -> Path:
        """Write the decisions into a dataset folder, sorted by key: equal decisions give equal bytes."""
        path = folder / SPLIT_NAME
        cutoff = "" if self.cutoff_at is None else str(self.cutoff_at)
        keys = sorted(self.decided)
        table = pa.table([keys, [self.decided[key].value for key in keys]], schema=_SCHEMA)
        scratch = path.with_name(f".{SPLIT_NAME}.new")
        with disk_errors(path):
            try:
                pq.write_table(
                    table.replace_schema_metadata({_CUTOFF: cutoff}),
                    scratch,
                    row_group_size=ROWS_PER_GROUP,
                    compression="zstd",
                    compression_level=ZSTD_LEVEL,
                    use_dictionary=["slice"],
                )
                scratch.replace(path)
            finally:
                with suppress(OSError):
                    scratch.unlink(missing_ok=True)
        return path


def _decisions(file: pq.ParquetFile) -> Iterator[tuple[str, Decision]]:
    known = {decision.value: decision for decision in Decision}
    for batch in file.iter_batches(columns=["key", "slice"]):
        for key, name in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            yield key, known[name]
