"""What a build left out, as a person looks at it: rows of dropped.parquet by stage, reason and path."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from data_pipelines.filters.globs import glob_matches
from data_pipelines.sinks.target import REBUILD_HINT, read_manifest
from finetune.contracts.dataset import DROPPED_NAME, DroppedFile
from finetune.contracts.errors import DatasetError, UsageError
from finetune.contracts.io import require_file
from finetune.terminal.output import printable, table

ROWS_AT_ONCE = 4096


def read_dropped(
    folder: Path, *, stage: str | None = None, reason_contains: str = "", path_glob: str = "", limit: int | None = None
) -> list[DroppedFile]:
    """Up to limit rows (None: all) that match, in the order in which they were left out.

    stage None takes every stage, "" as reason or glob every one; case does not count in reasons, globs are those of
    .gitignore. Raises UsageError for a stage that left nothing out, DatasetError when the dataset is missing or
    damaged, or when no row matches.
    """
    stages = sorted({row.stage for row in read_manifest(folder).dropped})
    if stage is not None and stage not in stages:
        known = ", ".join(stages) or "none"
        raise UsageError(f"Stage {stage!r} left nothing out of {folder}.", f"Stages that did: {known}.")
    found: list[DroppedFile] = []
    for row in _rows(folder / DROPPED_NAME, stage):
        if reason_contains.lower() in row.reason.lower() and (not path_glob or glob_matches(row.path, path_glob)):
            found.append(row)
        if len(found) == limit:
            break
    if not found:
        raise DatasetError(
            f"Nothing that {folder} left out matches.", f"See the reasons there are: finetune data stats {folder}"
        )
    return found


def dropped_rows(folder: Path) -> Iterator[DroppedFile]:
    """All rows in their order. Raises DatasetError when they are missing or damaged."""
    yield from _rows(folder / DROPPED_NAME, None)


def dropped_page(rows: Sequence[DroppedFile]) -> str:
    """The rows as a table; what came out of a repository cannot steer the terminal."""
    return table(
        [(row.stage, printable(row.reason), _place(row), f"{row.bytes:,}") for row in rows],
        header=("stage", "reason", "place", "bytes"),
    )


def _place(row: DroppedFile) -> str:
    place = f"{row.repo}:{row.path}" if row.path else f"{row.repo} {row.commit[:12]}"
    return printable(f"{place} (twin of {row.twin})" if row.twin else place)


def _rows(path: Path, stage: str | None) -> Iterator[DroppedFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pydantic import ValidationError

    try:
        require_file(path)
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    if stage in (None, row["stage"]):
                        yield DroppedFile.model_validate(row)
    except FileNotFoundError as cause:
        raise DatasetError(f"{path} is missing from the dataset.", REBUILD_HINT) from cause
    except (pa.ArrowException, OSError, KeyError, ValidationError) as cause:
        raise DatasetError(f"{path} is damaged and cannot be read.", REBUILD_HINT) from cause
