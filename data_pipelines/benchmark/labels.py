"""What training knew of a function, by the records of the dataset that it is trained on: seen, evolving or novel."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_pipelines.lineage.lineage import places_of
from data_pipelines.report.survey import damage
from data_pipelines.sinks.target import read_manifest
from finetune.contracts.dataset import DROPPED_NAME, INFILL_TASKS, Role, Slice, Split, Task

ROWS_PER_BATCH = 512
COLUMNS = ("task", "split", "slice", "segments", "provenance")
ORDER = (Role.PREFIX, Role.TARGET, Role.SUFFIX)
File = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Body:
    """A function's body where it stands: blob is the id of its file's content in git, lines are inclusive."""

    id: str
    repo: str
    path: str
    blob: str
    first_line: int
    last_line: int
    text: str


@dataclass(frozen=True, slots=True)
class Label:
    """seen: training saw the body, wherever it stood. slice is None then; else see contracts.dataset.Slice."""

    seen: bool
    slice: Slice | None


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels by a body's id, of the dataset of this digest. repos are those that the dataset was made from."""

    dataset_digest: str
    repos: tuple[str, ...]
    of: Mapping[str, Label]


def label_bodies(dataset: Path, bodies: Collection[Body]) -> Labels:
    """Label bodies by all rows of the dataset in a folder; raises DatasetError for one that is missing or damaged.

    Seen: a training row holds lines of the body, in that very content of the file, or holds its lines in a row, but
    for indentation, empty lines and comment lines, in any file; whether it learns them or only shows them. Evolving:
    training saw another content or other lines of the file or of a near-duplicate of it, or a held-out row of these
    lines is evolving. Novel: none of that.
    """
    manifest = read_manifest(dataset)
    twins = dict(_twins(dataset / DROPPED_NAME))
    records = _Records(bodies)
    for shard in manifest.shards:
        for row in _rows(dataset / shard.name, COLUMNS):
            records.take(row)
    labels = {body.id: records.label(body, twin=twins.get((body.repo, body.path))) for body in bodies}
    return Labels(manifest.content_digest, tuple(source.repo for source in manifest.sources), labels)


class _Records:
    """What the rows of a dataset say of bodies."""

    def __init__(self, bodies: Collection[Body]) -> None:
        self.by_file: defaultdict[File, list[Body]] = defaultdict(list)
        self.by_first_line: defaultdict[str, list[tuple[str, list[str]]]] = defaultdict(list)
        for body in bodies:
            self.by_file[body.repo, body.path].append(body)
            lines = normal_lines(body.text)
            if lines:
                self.by_first_line[lines[0]].append((body.id, lines))
        self.trained: set[File] = set()
        self.seen: set[str] = set()
        self.evolving: set[str] = set()

    def take(self, row: Mapping[str, Any]) -> None:
        """Take in a row as it stands in a shard."""
        is_train = row["split"] == Split.TRAIN
        for place in places_of(dict(row)):
            file = place.repo, place.path
            if is_train:
                self.trained.add(file)
            for body in self.by_file.get(file, ()):
                touches = place.first_line <= body.last_line and body.first_line <= place.last_line
                if place.blob == body.blob and touches:
                    if is_train:
                        self.seen.add(body.id)
                    elif row.get("slice") == Slice.EVOLVING:
                        self.evolving.add(body.id)
        if is_train:
            for text in _texts(row):
                self.seen.update(self._copies(normal_lines(text)))

    def label(self, body: Body, *, twin: File | None) -> Label:
        """twin: the near-duplicate that the dataset kept in the place of the body's file, None for none."""
        if body.id in self.seen:
            return Label(seen=True, slice=None)
        is_known = body.id in self.evolving or (body.repo, body.path) in self.trained or twin in self.trained
        return Label(seen=False, slice=Slice.EVOLVING if is_known else Slice.NOVEL)

    def _copies(self, lines: Sequence[str]) -> Iterator[str]:
        for number, line in enumerate(lines):
            for body, wanted in self.by_first_line.get(line, ()):
                if lines[number : number + len(wanted)] == wanted:
                    yield body


def normal_lines(text: str) -> list[str]:
    """Lines without indentation, empty ones and comments left out."""
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _texts(row: Mapping[str, Any]) -> list[str]:
    """The texts of a row; a file that a gap was cut into is whole again."""
    segments = row["segments"]
    texts = [segment["text"] for segment in segments if segment["role"] not in ORDER]
    if Task(row["task"]) in INFILL_TASKS:
        by_role = {segment["role"]: segment["text"] for segment in segments}
        texts.append("".join(by_role.get(role, "") for role in ORDER))
        return texts
    return [*texts, *(segment["text"] for segment in segments if segment["role"] in ORDER)]


def _twins(path: Path) -> Iterator[tuple[File, File]]:
    for row in _rows(path, ("repo", "path", "twin")):
        if row["twin"]:
            repo, _, name = row["twin"].partition(":")
            yield (row["repo"], row["path"]), (repo, name)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    with damage(path), pq.ParquetFile(path) as file:
        # datasets of schema version 1 have no slices
        known = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=known, use_threads=False):
            yield from batch.to_pylist()
