"""What rows were made from, read off the provenance columns of a dataset's shards: their texts are never loaded."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from data_pipelines.config import RedactSection
from data_pipelines.engine.work import KEY_NAME
from data_pipelines.redact.key import key_name, redaction_key
from data_pipelines.redact.redactor import AUTHOR_CHARS, Redactor
from data_pipelines.sinks.target import read_manifest
from finetune.contracts.dataset import DatasetManifest, Provenance, Slice, Split, Task
from finetune.contracts.errors import DatasetError, InputError, UsageError

ROWS_PER_BATCH = 1024
PLAIN_COLUMNS = ("id", "task", "split", "slice", "language")
AUTHOR_HASH = re.compile(rf"[0-9a-f]{{{AUTHOR_CHARS}}}")
TEXT_COLUMN = "segments.list.element.text"


@dataclass(frozen=True, slots=True)
class Place:
    """A piece of a file in a row. is_target: text of that file is learned, not only shown; lines are inclusive."""

    repo: str
    commit: str
    path: str
    blob: str
    first_line: int
    last_line: int
    author: str
    is_target: bool


@dataclass(frozen=True, slots=True)
class RowPlaces:
    """A row without its texts, with all pieces of files in it. shard is the name of its file."""

    shard: str
    id: str
    task: Task
    split: Split
    slice: Slice | None
    language: str
    places: tuple[Place, ...]


Wanted: TypeAlias = Callable[[Place], bool]


def rows_with_places(folder: Path, manifest: DatasetManifest) -> Iterator[RowPlaces]:
    """All rows of a dataset, a batch of provenance in memory at a time. Raises DatasetError for a damaged shard."""
    for shard in manifest.shards:
        yield from _shard(folder / shard.name)


def key_name_of(manifest: DatasetManifest) -> str:
    """The name of the key that author hashes of a dataset were made with, "" if it does not say."""
    try:
        redact = json.loads(manifest.settings).get("redact", {})
    except ValueError:
        return ""
    return str(redact.get("key_name", ""))


def find_key(data_folder: Path, key_file: Path | None) -> bytes | None:
    """The key in key_file, else that of a home's builds; None when the home has none. Raises InputError."""
    if key_file is not None:
        return redaction_key(RedactSection(key_file=key_file), bytes)
    path = data_folder / KEY_NAME
    return path.read_bytes() if path.is_file() else None


def author_of(folder: Path, given: str, *, key: bytes | None) -> str:
    """The hash of an author as it stands in a dataset, given as e-mail address, or as that hash.

    Raises UsageError for anything else, InputError without a key, DatasetError when the key is not the dataset's.
    """
    if AUTHOR_HASH.fullmatch(given):
        return given
    if "@" not in given:
        raise UsageError(f"{given!r} is no e-mail address.", "Give the address that stands in the commits.")
    if key is None:
        raise InputError(
            "This home has no key, without which an address cannot be looked up.",
            "Give the --home of the build, or the key that its pipeline file named with --key-file.",
        )
    if key_name_of(read_manifest(folder)) != key_name(key):
        raise DatasetError(
            f"The authors in {folder} were hashed with another key: an address cannot be found there with this one.",
            "Give the --home of its build, or the key that its pipeline file named with --key-file.",
        )
    return Redactor(RedactSection(), key).author(given)


def _shard(path: Path) -> Iterator[RowPlaces]:
    import pyarrow.parquet as pq

    from data_pipelines.report.survey import damage

    with damage(path), pq.ParquetFile(path) as file:
        columns = file.metadata.schema
        names = [columns.column(number).path for number in range(file.metadata.num_columns)]
        parts = ("segments.", "provenance.")
        wanted = [name for name in names if name in PLAIN_COLUMNS or name.startswith(parts)]
        for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=[n for n in wanted if n != TEXT_COLUMN]):
            for row in batch.to_pylist():
                yield _row(path.name, row)


def _row(shard: str, row: dict[str, Any]) -> RowPlaces:
    # datasets of schema version 1 have no slices
    part = row.get("slice")
    if not isinstance(row["id"], str):
        raise TypeError("a row has no id")
    return RowPlaces(
        shard=shard,
        id=row["id"],
        task=Task(row["task"]),
        split=Split(row["split"]),
        slice=Slice(part) if part else None,
        language=row["language"],
        places=tuple(places_of(row)),
    )


def places_of(row: dict[str, Any]) -> Iterator[Place]:
    """The pieces of files in a row as it stands in a shard.

    What is learned names the file it came from; an answer that names none, as that of a commit, is made from all of
    them.
    """
    learned = {segment["path"] for segment in row["segments"] if segment["loss"]}
    for found in row["provenance"]:
        place = Provenance.model_validate(found)
        yield Place(
            repo=place.repo,
            commit=place.commit,
            path=place.path,
            blob=place.blob,
            first_line=place.first_line,
            last_line=place.last_line,
            author=place.author,
            is_target=None in learned or place.path in learned,
        )
