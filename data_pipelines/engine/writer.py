"""The stage that writes: files and edits of one repository in, rows in Parquet out. Runs in worker processes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from data_pipelines.config import PipelineConfig
from data_pipelines.dedup.shingles import distinct
from data_pipelines.document import Origin
from data_pipelines.engine.results import EditHead, PeopleList
from data_pipelines.engine.rows import FileMiner, SourceFile
from data_pipelines.engine.scan import LastScan
from data_pipelines.engine.store import Store
from data_pipelines.engine.survey import Survey
from data_pipelines.mine.commit_edit import commit_edit_row
from data_pipelines.mine.mixture import priority_of
from data_pipelines.mine.row import Row, row_id
from data_pipelines.redact.form import form_of
from data_pipelines.redact.redactor import Redactor
from data_pipelines.reviews.fix_head import FixHead, stored_fix_row
from data_pipelines.sinks.columns import read_columns
from data_pipelines.sinks.parquet import reason_counts
from data_pipelines.sinks.rows import ExampleFile
from data_pipelines.split.functions import FunctionLines, on_lines, unpack_functions
from data_pipelines.split.leakage import NONE, Marks, asked, change_keys, change_words, taught_texts
from data_pipelines.split.marks import AskedFile, TaughtFiles
from data_pipelines.task_config import TasksSection
from finetune.contracts.dataset import ReasonCount, Role, Slice, Split, Task
from finetune.contracts.edit_blocks import read_blocks
from finetune.contracts.io import digest_file, new_folder, write_json

VERSION = 3
SETTINGS_NAME, PEOPLE_NAME = "settings.json", "people.json"
PART_NAME = "part.json"
FILE_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("blob", pa.string()),
        ("language", pa.string()),
        ("license", pa.string()),
        ("revision", pa.string()),
        ("time", pa.int64()),
        ("author", pa.string()),
        ("key", pa.binary()),
        ("text", pa.binary()),
        ("bytes", pa.int64()),
        ("cluster", pa.string()),
        ("split", pa.string()),
        ("slice", pa.string()),
        ("kept", pa.bool_()),
    ]
)
EDIT_SCHEMA = pa.schema(
    [
        ("revision", pa.string()),
        ("time", pa.int64()),
        ("author", pa.string()),
        ("key", pa.binary()),
        ("head", pa.binary()),
        ("cluster", pa.string()),
        ("split", pa.string()),
        ("slice", pa.string()),
        ("license", pa.string()),
    ]
)


# of these each text is a stretch of a file, whose runs of tokens are taught with the file
SLICES_OF_FILES = frozenset({Task.INFILL, Task.DOCSTRING, Task.PRETRAIN})
LAST_LINE = 1 << 40


class Model(BaseModel):
    """Base of what is passed to workers and kept of a part."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WriteSettings(Model):
    """What every task of the stage needs: settings, names and visibilities by source, the store, the key."""

    config: PipelineConfig
    names: tuple[str, ...]
    visibilities: tuple[str, ...]
    surveys: tuple[Path | None, ...]
    store: Path
    key: str


class PartTask(Model):
    """Which rows of a source's table a task takes: [first, last) of its files or edits, or a share of its packs."""

    kind: Literal["files", "edits", "reviews", "packs"]
    source: int
    first: int
    last: int


class PartFile(Model):
    """A file of a part."""

    name: str
    sha256: str


class Part(Model):
    """What a task wrote, before the leakage gate and the budget."""

    files: tuple[PartFile, ...]
    dropped: tuple[ReasonCount, ...]
    note: str = ""
    """What of its source could not be had, "" when all was; the manifest tells it."""


def write_task(stage_folder: Path, number: int, target: Path) -> None:
    """Write the rows of one part."""
    task = PartTask.model_validate_json((stage_folder / f"task-{number:05d}.json").read_bytes())
    desk = _desk(stage_folder)
    with new_folder(target) as scratch:
        write_json(scratch / PART_NAME, desk.write(task, scratch))


@lru_cache(maxsize=1)
def _desk(stage_folder: Path) -> "Desk":
    settings = WriteSettings.model_validate_json((stage_folder / SETTINGS_NAME).read_bytes())
    people = PeopleList.model_validate_json((stage_folder / PEOPLE_NAME).read_bytes())
    return Desk(settings, people, stage_folder)


class Desk:
    """Everything that a worker needs, made once and kept over its tasks."""

    def __init__(self, settings: WriteSettings, people: PeopleList, stage_folder: Path) -> None:
        self._settings = settings
        self._config = settings.config
        self._folder = stage_folder
        self._store = Store(settings.store, read_only=True)
        redactor = Redactor(settings.config.redact, bytes.fromhex(settings.key), people=people.people())
        self._scan = LastScan(redactor)
        self._miner: tuple[int, FileMiner] | None = None
        # the rows of one file ask for its functions one after the other
        self._functions = lru_cache(maxsize=16)(self._read_functions)

    def write(self, task: PartTask, scratch: Path) -> Part:
        """Write one part into scratch."""
        with PartWriter(scratch, self._scan, self._config.tasks) as writer:
            if task.kind == "edits":
                self._edits(task, writer)
            elif task.kind == "reviews":
                self._reviews(task, writer)
            elif task.kind == "packs":
                self._packs(task, writer)
            else:
                self._files(task, writer)
        return writer.part()

    def _files(self, task: PartTask, writer: "PartWriter") -> None:
        miner = self._miner_of(task.source)
        for file in miner.files[task.first : task.last]:
            if file.split is None:
                continue
            text = self._store.text(file.text)
            self._scan.offer(f"{file.repo}:{file.path}", text.decode("utf-8"), form_of(file.path))
            if file.split is Split.TRAIN:
                # twins too, because rows may show them
                writer.taught.add_texts([text])
                writer.taught.add(Marks(NONE, on_lines(self._functions(file.key), 1, LAST_LINE)))
            for row in miner.rows(file):
                marks = file_marks(row, file.split, lambda path: self._functions(miner.file_at(path).key))
                writer.add(row, Place(file.split, file.slice, file.cluster), marks)

    def _read_functions(self, key: bytes) -> list[FunctionLines]:
        return unpack_functions(self._store.functions(key))

    def _packs(self, task: PartTask, writer: "PartWriter") -> None:
        miner = self._miner_of(task.source)
        for row, file in miner.packs(share=task.first, num_shares=task.last):
            assert file.split is not None
            marks = file_marks(row, file.split, lambda path: self._functions(miner.file_at(path).key))
            writer.add(row, Place(file.split, file.slice, file.cluster), marks)

    def _edits(self, task: PartTask, writer: "PartWriter") -> None:
        for stored, known, place in self._changes(task):
            head = EditHead.model_validate_json(stored)
            made = commit_edit_row(head, **known)
            writer.add(made, place, change_marks(made, place.split, head.requests))

    def _reviews(self, task: PartTask, writer: "PartWriter") -> None:
        for stored, known, place in self._changes(task):
            head = FixHead.model_validate_json(stored)
            made = stored_fix_row(head, **known)
            writer.add(made, place, change_marks(made, place.split, head.requests))

    def _changes(self, task: PartTask) -> Iterator[tuple[bytes, "Known", "Place"]]:
        """For each change of a task its head in the store, what its row must be told, and where that goes."""
        settings = self._settings
        rows = read_columns(self._folder / f"{task.kind}-{task.source:05d}.parquet")
        for row in islice(rows, task.first, task.last):
            revision, time, author, key, _, cluster, split, slice_, license_name = row
            known = Known(
                repo=settings.names[task.source],
                visibility=settings.visibilities[task.source],
                origin=Origin(revision, time, author),
                license_name=license_name,
                read=self._store.text,
            )
            place = Place(Split(split), Slice(slice_) if slice_ else None, cluster)
            yield self._store.heads([key])[key].head, known, place

    def _miner_of(self, source: int) -> FileMiner:
        if self._miner is None or self._miner[0] != source:
            files = read_files(self._folder, source, settings=self._settings)
            folder = self._settings.surveys[source]
            assert folder is not None, "a source without a survey has no files"
            self._miner = (
                source,
                FileMiner(files, store=self._store, tasks=self._config.tasks, co_changes=Survey(folder).co_changes()),
            )
        return self._miner[1]


def read_files(folder: Path, source: int, *, settings: WriteSettings) -> list[SourceFile]:
    """The files of a source, as the stage's folder lists them."""
    return [_file(settings, source, row) for row in read_columns(folder / f"files-{source:05d}.parquet")]


def _file(settings: WriteSettings, source: int, row: tuple[Any, ...]) -> SourceFile:
    path, blob, language, license_name, revision, time, author, key, text, size, cluster, split, slice_, kept = row
    return SourceFile(
        repo=settings.names[source],
        visibility=settings.visibilities[source],
        path=path,
        blob=blob,
        language=language,
        license=license_name,
        origin=Origin(revision, time, author),
        key=key,
        text=text,
        bytes=size,
        cluster=cluster,
        split=Split(split) if split else None,
        slice=Slice(slice_) if slice_ else None,
        kept=kept,
    )


class Known(TypedDict):
    """What the row of a change says beside what the store has; read gives a text by its digest."""

    repo: str
    visibility: str
    origin: Origin
    license_name: str | None
    read: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row goes."""

    split: Split
    slice: Slice | None
    cluster: str


def file_marks(row: Row, split: Split, functions_of: Callable[[str], Sequence[FunctionLines]]) -> Marks:
    """What a row that was made from files asks. A train row asks nothing, and its file's functions are noted once.

    functions_of gives the functions of a file of the repository. A row of tests asks for the function under test, too,
    and for those shown beside it: tests of what train knows are not novel.
    """
    if split is Split.TRAIN:
        return Marks(NONE)
    places = row.provenance if row.task is Task.TESTS else row.provenance[:1]
    found = [on_lines(functions_of(place.path), place.first_line, place.last_line) for place in places]
    return Marks(asked(row.segments), distinct(np.concatenate(found)))


def change_marks(row: Row, split: Split, requests: Sequence[str]) -> Marks:
    """Marks of a row that was made from a commit: the change, and the runs that a held-out row asks."""
    place = row.provenance[0]
    answer = "".join(segment.text for segment in row.segments if segment.role is Role.ANSWER)
    keys = change_keys(requests, read_blocks(answer), repo=place.repo, commit=place.commit)
    return Marks(NONE if split is Split.TRAIN else asked(row.segments), NONE, change_words(keys))


class PartWriter:
    """Rows of a part into its files, with what the leakage gate must know of each."""

    def __init__(self, folder: Path, scan: LastScan, tasks: TasksSection) -> None:
        self._folder = folder
        self._scan = scan
        self._weights = tasks.weights()
        self._files = {split: ExampleFile(folder, split) for split in Split}
        self.taught = TaughtFiles(folder)
        self._asked = AskedFile(folder)
        self._dropped: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.__exit__(kind, error, trace)
        self.taught.__exit__(kind, error, trace)
        self._asked.__exit__(kind, error, trace)

    def leave_out(self, task: Task, reason: str) -> None:
        """Count a row that could not be made."""
        self._dropped[task, reason] += 1

    def add(self, row: Row, place: Place, marks: Marks) -> None:
        """Write a row, or count why not; marks as held-out asks them, or of train what is no run of its texts."""
        reason = self._scan.reason(row)
        if not reason and place.split is Split.TRAIN and not self._is_wanted(row):
            reason = "mixture weight"
        if reason:
            self.leave_out(row.task, reason)
            return
        name = self._files[place.split].add(row, slice_=place.slice, cluster=place.cluster)
        if place.split is Split.TRAIN:
            if row.task not in SLICES_OF_FILES:
                self.taught.add_texts(taught_texts(row.segments))
            self.taught.add(marks)
        else:
            self._asked.add(name, marks)

    def part(self) -> Part:
        """What was written, after the block has ended."""
        paths = sorted(self._folder.iterdir())
        files = tuple(PartFile(name=path.name, sha256=digest_file(path)) for path in paths)
        return Part(files=files, dropped=reason_counts(self._dropped))

    def _is_wanted(self, row: Row) -> bool:
        weight = self._weights[row.task]
        return weight >= 1 or priority_of(row_id(row), weight) < 1
