"""The stage that asks a teacher: seeds of a source in, a part of rows out. Runs in worker processes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from data_pipelines.engine.reader import Scan
from data_pipelines.engine.results import PeopleList
from data_pipelines.engine.rows import SourceFile
from data_pipelines.engine.scan import LastScan
from data_pipelines.engine.store import Store
from data_pipelines.engine.writer import (
    PART_NAME,
    PEOPLE_NAME,
    SETTINGS_NAME,
    Part,
    PartWriter,
    Place,
    WriteSettings,
    read_files,
)
from data_pipelines.mine.qa import NoAnswer, QaMiner
from data_pipelines.mine.qa_seeds import Seed
from data_pipelines.mine.row import Row
from data_pipelines.questions.answers import FileAnswers
from data_pipelines.questions.qa_seeding import read_names, read_seeds
from data_pipelines.questions.teacher import Message, Teacher, TeacherFailed, question_of
from data_pipelines.redact.redactor import Redactor, ScanFailed
from data_pipelines.split.functions import on_lines, unpack_functions
from data_pipelines.split.leakage import NONE, Marks, asked
from data_pipelines.task_config import TeacherSection
from finetune.contracts.dataset import Slice, Split, Task
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.io import new_folder, write_json

ASKS_NAME = "asks.json"
GONE = "the teacher could not be asked"


class AskTasks(BaseModel):
    """The source of each task and where its seeds lie; answers is the folder of what the teacher said before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[int, ...]
    seeds: tuple[Path, ...]
    answers: Path


def ask_task(stage_folder: Path, number: int, target: Path) -> None:
    """Write the questions of one source as a part. A teacher that is gone costs what it did not answer before."""
    settings = WriteSettings.model_validate_json((stage_folder / SETTINGS_NAME).read_bytes())
    people = PeopleList.model_validate_json((stage_folder / PEOPLE_NAME).read_bytes())
    tasks = AskTasks.model_validate_json((stage_folder / ASKS_NAME).read_bytes())
    files = read_files(stage_folder, tasks.sources[number], settings=settings)
    redactor = Redactor(settings.config.redact, bytes.fromhex(settings.key), people=people.people())
    section = settings.config.tasks.qa
    assert section.teacher is not None, "without a teacher nothing is asked"
    teacher = LastingTeacher(section.teacher, FileAnswers(tasks.answers))
    names = read_names(tasks.seeds[number])
    miner = QaMiner(teacher, Scan(redactor), knows=names.__contains__, section=section)
    with Store(settings.store, read_only=True) as store, new_folder(target) as scratch:
        with PartWriter(scratch, LastScan(redactor), settings.config.tasks) as writer:
            desk = _Desk(files, store, writer)
            for seed in read_seeds(tasks.seeds[number], files):
                desk.write(seed, miner)
        part = writer.part()
        write_json(scratch / PART_NAME, Part(files=part.files, dropped=part.dropped, note=teacher.note()))


class LastingTeacher:
    """A teacher that, once it cannot be reached or refuses, is only asked what it answered before."""

    def __init__(self, section: TeacherSection, answers: FileAnswers) -> None:
        self._section = section
        self._answers = answers
        self._teacher: Teacher | None = None
        self._num_failed = 0
        self._reason = ""
        try:
            self._teacher = Teacher(section, answers)
        except (MachineError, InputError) as error:
            self._reason = error.message

    def ask(self, messages: Sequence[Message]) -> str:
        """The answer to a talk. Raises TeacherFailed."""
        known = self._answers.get(question_of(self._section, messages)[0])
        if known is not None:
            return known
        teacher = self._teacher
        if teacher is None:
            self._num_failed += 1
            raise TeacherFailed(GONE)
        try:
            return teacher.ask(messages)
        except TeacherFailed:
            self._num_failed += 1
            raise
        except (MachineError, InputError) as error:
            self._num_failed += 1
            self._teacher, self._reason = None, error.message
            raise TeacherFailed(GONE) from error

    def note(self) -> str:
        """What could not be had of it, "" when every question was answered."""
        if not self._num_failed:
            return ""
        why = f": {self._reason}" if self._reason else ""
        return f"the teacher left {self._num_failed} questions without an answer{why}"


class _Desk:
    """Where rows go: to the side of the files that they show."""

    def __init__(self, files: Sequence[SourceFile], store: Store, writer: PartWriter) -> None:
        self._files = {file.path: file for file in files}
        self._store = store
        self._writer = writer

    def write(self, seed: Seed, miner: QaMiner) -> None:
        try:
            row = miner.mine(seed)
        except ScanFailed as failed:
            row = NoAnswer(str(failed))
        if isinstance(row, NoAnswer):
            self._writer.leave_out(Task.QA, row.reason)
            return
        shown = [self._files[one.document.path] for one in seed.shown]
        place = place_of(shown)
        self._writer.add(row, place, self._marks(row, place.split))

    def _marks(self, row: Row, split: Split) -> Marks:
        if split is Split.TRAIN:
            return Marks(NONE)
        known = [
            on_lines(unpack_functions(self._store.functions(self._files[one.path].key)), one.first_line, one.last_line)
            for one in row.provenance
        ]
        return Marks(asked(row.segments), np.unique(np.concatenate([NONE, *known])))


def place_of(files: Sequence[SourceFile]) -> Place:
    """Where a row goes that shows these files, which are all of one split: novel when all of them are."""
    split = files[0].split
    assert split is not None, "a file that may not be shown has no seed"
    assert all(file.split is split and file.kept for file in files), "a seed shows files of one side"
    if split is Split.TRAIN:
        return Place(split, None, files[0].cluster)
    is_novel = all(file.slice is Slice.NOVEL for file in files)
    return Place(split, Slice.NOVEL if is_novel else Slice.EVOLVING, files[0].cluster)
