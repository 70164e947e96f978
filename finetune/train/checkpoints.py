"""Checkpoints that are whole or not there: written aside, then renamed; each file's digest checked before use."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from finetune.contracts.adapter import FileDigest
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, RunError
from finetune.contracts.io import digest_file, new_folder, read_model, write_json
from finetune.terminal.output import note

RECORD_NAME = "checkpoint.json"
HINT = "The checkpoint before it is used instead; remove this folder if you like."


class Subject(Contract):
    """What a checkpoint belongs to; all four digests must agree before it is used."""

    run_id: str
    base: str
    dataset: str
    recipe: str


class CheckpointRecord(Contract):
    """What a checkpoint folder holds: the state after step, when rows_done places of the row order were learned."""

    schema_version: Literal[1] = 1
    subject: Subject
    step: int = Field(ge=0)
    rows_done: int = Field(ge=0)
    files: tuple[FileDigest, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were checked."""

    folder: Path
    record: CheckpointRecord


class CheckpointStore:
    """The checkpoints of one run, folders named step-NNNNNN. keep is how many of the newest stay."""

    def __init__(self, root: Path, subject: Subject, *, keep: int) -> None:
        self.root = root
        self.subject = subject
        self._keep = keep

    def save(self, step: int, *, rows_done: int, write: Callable[[Path], None]) -> Path:
        """Let write fill an empty folder, seal it, and only then remove what is too old.

        Raises MachineError when the disk is full; the checkpoints that were there stay.
        """
        target = self.root / f"step-{step:06d}"
        with new_folder(target) as scratch:
            write(scratch)
            record = CheckpointRecord(
                subject=self.subject,
                step=step,
                rows_done=rows_done,
                files=tuple(
                    FileDigest(name=path.name, bytes=path.stat().st_size, sha256=digest_file(path))
                    for path in sorted(scratch.iterdir())
                ),
            )
            write_json(scratch / RECORD_NAME, record)
        for old in self._folders()[: -self._keep]:
            shutil.rmtree(old)
        return target

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole and belongs to this run, None when there is none.

        One that is damaged is passed over with a note. Raises RunError for one made from another base, dataset or
        recipe: going on from it would mix two runs.
        """
        for folder in reversed(self._folders()):
            try:
                return Checkpoint(folder, self._read(folder))
            except InputError as error:
                if isinstance(error, RunError):
                    raise
                note(f"{error.message} {HINT}")
        return None

    def _folders(self) -> list[Path]:
        """Checkpoint folders, oldest first."""
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if re.fullmatch(r"step-\d{6,}", path.name))

    def _read(self, folder: Path) -> CheckpointRecord:
        record = read_model(folder / RECORD_NAME, CheckpointRecord, error=DamagedCheckpoint, hint=HINT)
        for entry in record.files:
            path = folder / entry.name
            if not path.is_file():
                raise DamagedCheckpoint(f"{path} is missing.", HINT)
            if path.stat().st_size != entry.bytes or digest_file(path) != entry.sha256:
                raise DamagedCheckpoint(f"{path} was cut short or altered.", HINT)
        for name, expected in self.subject.model_dump().items():
            found = getattr(record.subject, name)
            if found != expected:
                raise RunError(
                    f"{folder} was made with another {name.replace('_', ' ')}: {found[:12]}, not {expected[:12]}.",
                    "Start a new run: finetune train RECIPE",
                )
        return record


class DamagedCheckpoint(InputError):
    """A checkpoint folder that cannot be used; the one before it is tried."""
