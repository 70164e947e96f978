"""One card for two jobs: who has it, and who wants it.

A job (training, evaluation) holds `job.lock` from the moment it wants the card to its end; a server holds a file of its
own in `servers/` while its model is on the card. The system lets go of both when a process ends, however it ends: no
crash of one can leave the other waiting.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import MachineError
from finetune.contracts.io import disk_errors, write_json

# A server that looks whether the card is wanted holds the lock for a moment
LOOK_SECONDS = 1.0
POLL_SECONDS = 0.1


class CardJob(Contract):
    """Who wants or has the card: a process, and what it does, in words for people."""

    schema_version: Literal[1] = 1
    pid: int
    does: str


class CardServer(Contract):
    """A server whose model is on the card. yields: it leaves when a job asks, drain_seconds later at most."""

    schema_version: Literal[1] = 1
    pid: int
    url: str
    yields: bool
    drain_seconds: float


UNKNOWN_JOB = CardJob(pid=0, does="another job")


class CardTakenError(MachineError):
    """Another job has the card."""


class HeldCards:
    """The locks of a job, to be given to processes that it starts by spawning.

    They then hold them too: when the job is killed, its cards are not free before those processes have ended.
    """

    def __init__(self, handles: Sequence[int]) -> None:
        self._handles = handles

    def __reduce__(self) -> tuple[Any, ...]:
        return _held_by_child, tuple(DupFd(handle) for handle in self._handles)


def _held_by_child(*handles: Any) -> HeldCards:
    return HeldCards([handle.detach() for handle in handles])


class Card:
    """A device and its folder in the home, which all jobs and servers of the home share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._job = folder / "job.lock"
        self._note = folder / "job.json"
        self._servers = folder / "servers"

    @contextmanager
    def wanted(self, job: CardJob) -> Iterator[int]:
        """Want the card, and have it once servers() is empty, while the block runs; yields the lock's handle.

        Raises CardTakenError when another job does.
        """
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._job, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _locked(handle, fcntl.LOCK_EX, seconds=LOOK_SECONDS):
                other = self._noted()
                raise CardTakenError(
                    f"The card is in use by {other.does} (process {other.pid}).",
                    "Wait for it to end, or stop it; --share-card works beside it, where memory is enough for both.",
                )
            write_json(self._note, job)
            yield handle
        finally:
            os.close(handle)

    def wanted_by(self) -> CardJob | None:
        """The job that wants or has the card now."""
        try:
            handle = os.open(self._job, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            # shared: several servers may look at the same moment
            return None if _locked(handle, fcntl.LOCK_SH) else self._noted()
        finally:
            os.close(handle)

    @contextmanager
    def served(self, server: CardServer) -> Iterator[None]:
        """Say that a server's model is on the card while the block runs.

        It looks at wanted_by only after this and before it loads: whoever wants the card looks at servers after that.
        """
        with disk_errors(self._servers):
            self._servers.mkdir(parents=True, exist_ok=True)
            place = self._servers / f"{secrets.token_hex(8)}.json"
            # it gets its name when it is written and locked: what has a name and no lock was left by a crash
            scratch = place.with_suffix(".new")
            handle = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, server.model_dump_json().encode())
            fcntl.flock(handle, fcntl.LOCK_EX)
            scratch.rename(place)
            yield
        finally:
            for path in (place, scratch):
                path.unlink(missing_ok=True)
            os.close(handle)

    def servers(self) -> list[CardServer]:
        """The servers whose models are on the card now; what crashed ones left is removed."""
        held = []
        for path in sorted(self._servers.glob("*.json")):
            with suppress(FileNotFoundError):
                found = _server(path)
                if found:
                    held.append(found)
        return held

    def _noted(self) -> CardJob:
        # between the lock and the note there is a moment with none, or with that of the job before
        with suppress(FileNotFoundError, ValidationError):
            return CardJob.model_validate_json(self._note.read_bytes())
        return UNKNOWN_JOB


def _server(path: Path) -> CardServer | None:
    handle = os.open(path, os.O_RDWR)
    try:
        if _locked(handle, fcntl.LOCK_SH):
            path.unlink(missing_ok=True)
            return None
        return CardServer.model_validate_json(path.read_bytes())
    finally:
        os.close(handle)


def _locked(handle: int, kind: int, *, seconds: float = 0.0) -> bool:
    """Lock an open file; False when others held it all the time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS / 10)
        else:
            return True
