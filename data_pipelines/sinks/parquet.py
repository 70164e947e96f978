"""The columns of a dataset's files, and the log of what was left out."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from data_pipelines.sinks.columns import ColumnFile
from finetune.contracts.dataset import DROPPED_NAME, ReasonCount

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


class DropLog:
    """Files, commits and rows that were left out: a row each in dropped.parquet, counts by reason for the manifest."""

    def __init__(self, folder: Path) -> None:
        self._file = ColumnFile(folder / DROPPED_NAME, DROPPED_SCHEMA)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is pending; once is enough."""
        if not self._closed:
            self._closed = True
            self._file.__exit__(None, None, None)

    def add(
        self, repo: str, *, commit: str, path: str, stage: str, reason: str, num_bytes: int = 0, twin: str = ""
    ) -> None:
        """Note one file or commit, as in DroppedFile."""
        self._file.add(repo, commit, path, stage, reason, num_bytes, twin)
        self._counts[stage, reason] += 1

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
