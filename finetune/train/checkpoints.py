"""Checkpoints that are whole or not there: written aside, then renamed; each file's digest checked before use.

One process writes: the run folder's lock is held by it.
"""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import Field

from finetune.contracts.adapter import ADAPTER_WEIGHTS_NAME, FileDigest
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, MachineError, RunError
from finetune.contracts.io import digest_file, new_folder, read_model, write_json
from finetune.contracts.seal import sealed
from finetune.terminal.output import note

RECORD_NAME = "checkpoint.json"
HINT = "The checkpoint before it is used instead; remove this folder if you like."
RANDOM_STATE_NAME = "rng_state.pth"
# without one of these the library would go on with a fresh optimizer, schedule or random state, and say nothing
TRAINER_FILES = (
    ADAPTER_WEIGHTS_NAME,
    "optimizer.pt",
    "scheduler.pt",
    RANDOM_STATE_NAME,
    "trainer_state.json",
)
# another version may hold its state otherwise, or round otherwise
LIBRARIES = ("accelerate", "bitsandbytes", "peft", "torch", "transformers", "trl")
# beside the size of the checkpoint before: its records, and what else writes to the disk meanwhile
SPARE_BYTES = 16 << 20


class Subject(Contract):
    """What a checkpoint belongs to; all four digests must agree before it is used."""

    run_id: str
    base: str
    dataset: str
    recipe: str


class CheckpointRecord(Contract):
    """What a checkpoint folder holds: the state after step, when rows_done places of the row order were learned.

    num_processes trained together; each has a random state. libraries are the versions that wrote it, "name version";
    seal is the SHA-256 of all else in this record.
    """

    schema_version: Literal[3] = 3
    subject: Subject
    step: int = Field(ge=0)
    rows_done: int = Field(ge=0)
    num_processes: int = Field(default=1, ge=1)
    libraries: tuple[str, ...]
    files: tuple[FileDigest, ...]
    seal: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were checked."""

    folder: Path
    record: CheckpointRecord


def random_state_name(rank: int, num_processes: int) -> str:
    """The file of a process' random state, by the library's names."""
    return RANDOM_STATE_NAME if num_processes == 1 else f"rng_state_{rank}.pth"


def needed_files(num_processes: int) -> tuple[str, ...]:
    """Names of the files that a checkpoint of so many processes must hold."""
    shared = (name for name in TRAINER_FILES if name != RANDOM_STATE_NAME)
    return (*shared, *(random_state_name(rank, num_processes) for rank in range(num_processes)))


class CheckpointStore:
    """The checkpoints of one run, folders named step-NNNNNN. keep is how many of the newest stay.

    needs are the files that a checkpoint must hold, needed_files(num_processes) at least where it is trained from;
    companion gives the step of another checkpoint that must stay as long as that of a step does, None where there is
    none.
    """

    def __init__(
        self,
        root: Path,
        subject: Subject,
        *,
        keep: int,
        needs: Sequence[str] | None = None,
        companion: Callable[[int], int | None] = lambda step: None,
        num_processes: int = 1,
    ) -> None:
        self.root = root
        self.subject = subject
        self._keep = keep
        self._needs = frozenset(needed_files(num_processes) if needs is None else needs)
        self._companion = companion
        self._num_processes = num_processes

    def save(self, step: int, *, rows_done: int, write: Callable[[Path], None]) -> Path:
        """Let write fill an empty folder, seal it, and only then remove what is too old.

        Raises MachineError when the disk is full or has less room than the checkpoint before took; those that were
        there stay.
        """
        target = self._folder(step)
        self._clear_scratch()
        self._check_room()
        with new_folder(target) as scratch:
            write(scratch)
            record = CheckpointRecord(
                subject=self.subject,
                step=step,
                rows_done=rows_done,
                num_processes=self._num_processes,
                libraries=installed(),
                files=tuple(
                    FileDigest(name=path.name, bytes=path.stat().st_size, sha256=digest_file(path))
                    for path in sorted(scratch.iterdir())
                ),
            )
            write_json(scratch / RECORD_NAME, sealed(record))
        self._rotate()
        return target

    def at(self, step: int) -> Checkpoint | None:
        """The checkpoint of step, as newest would give it; None with a note when it is damaged or gone."""
        return self._whole(self._folder(step), "The next best is taken.")

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole and belongs to this run, None when there is none.

        One that is damaged is passed over with a note. Raises RunError for one made from another base, dataset or
        recipe, or by another number of processes: going on from it would mix two runs.
        """
        whole = (self._whole(folder, HINT) for folder in reversed(self._folders()))
        return next((found for found in whole if found), None)

    def _whole(self, folder: Path, instead: str) -> Checkpoint | None:
        try:
            return Checkpoint(folder, self._read(folder))
        except InputError as error:
            if isinstance(error, RunError):
                raise
            note(f"{error.message} {instead}")
        return None

    def _folder(self, step: int) -> Path:
        return self.root / folder_name(step)

    def _rotate(self) -> None:
        """Delete all but the newest, and what those need."""
        folders = self._folders()
        newest = folders[-self._keep :]
        needed = {self._companion(int(folder.name.removeprefix("step-"))) for folder in newest}
        for old in folders[: -self._keep]:
            if old not in {self._folder(step) for step in needed if step is not None}:
                shutil.rmtree(old)

    def _clear_scratch(self) -> None:
        """Delete what a killed process had begun to write."""
        for scratch in self.root.glob(".step-*"):
            shutil.rmtree(scratch)

    def _check_room(self) -> None:
        folders = self._folders()
        if not folders:
            return
        needed = sum(path.stat().st_size for path in folders[-1].iterdir()) + SPARE_BYTES
        free = shutil.disk_usage(self.root).free
        if free < needed:
            raise MachineError(
                f"A checkpoint needs {needed / 1e6:,.0f} MB on the disk of {self.root}; {free / 1e6:,.0f} MB are free.",
                f"Free some, then: finetune train --resume {self.subject.run_id}",
            )

    def _folders(self) -> list[Path]:
        """Checkpoint folders, oldest first."""
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if re.fullmatch(r"step-\d{6,}", path.name))

    def _read(self, folder: Path) -> CheckpointRecord:
        record = read_model(folder / RECORD_NAME, CheckpointRecord, error=DamagedCheckpoint, hint=HINT)
        if record != sealed(record) or folder.name != folder_name(record.step):
            raise DamagedCheckpoint(f"{folder / RECORD_NAME} was altered.", HINT)
        self._check_number(record, folder)
        for name in sorted(self._needs - {entry.name for entry in record.files}):
            raise DamagedCheckpoint(f"{folder} holds no {name}.", HINT)
        for entry in record.files:
            path = folder / entry.name
            if not path.is_file():
                raise DamagedCheckpoint(f"{path} is missing.", HINT)
            if path.stat().st_size != entry.bytes or digest_file(path) != entry.sha256:
                raise DamagedCheckpoint(f"{path} was cut short or altered.", HINT)
        self._check_origin(record, folder)
        return record

    def _check_number(self, record: CheckpointRecord, folder: Path) -> None:
        if record.num_processes != self._num_processes:
            raise RunError(
                f"{folder} was written by {record.num_processes} processes; here are {self._num_processes}.",
                "Go on with train.num_processes as it was; or start a new run: finetune train RECIPE",
            )

    def _check_origin(self, record: CheckpointRecord, folder: Path) -> None:
        for name, expected in self.subject.model_dump().items():
            found = getattr(record.subject, name)
            if found != expected:
                raise RunError(
                    f"{folder} was made with another {name.replace('_', ' ')}: {found[:12]}, not {expected[:12]}.",
                    "Start a new run: finetune train RECIPE",
                )
        for was, now in zip(record.libraries, installed(), strict=True):
            if was != now:
                raise RunError(
                    f"{folder} was written by {was}; here is {now}.",
                    f"Install {was.replace(' ', '==')} and go on; or start a new run: finetune train RECIPE",
                )


def folder_name(step: int) -> str:
    """What the folder of the checkpoint after step is called."""
    return f"step-{step:06d}"


def installed() -> tuple[str, ...]:
    """The libraries that a checkpoint depends on, with their versions."""
    return tuple(f"{name} {version(name)}" for name in LIBRARIES)


class DamagedCheckpoint(InputError):
    """A checkpoint folder that cannot be used; the one before it is tried."""
