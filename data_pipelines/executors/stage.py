"""A stage and its tasks: what a worker is given, and how it tells that a task failed."""

import importlib
import json
import os
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from finetune.contracts import errors
from finetune.contracts.errors import PlatformError
from finetune.guard.offline import go_offline
from finetune.guard.record import adopt_journal, use_journal

LOGS_NAME = "logs"
FAILED = "failed-{:05d}.json"
EGRESS = "egress-{}-{}.jsonl"


class TaskFunction(Protocol):
    """What a stage does for one of its tasks: read stage_folder, publish its result at target."""

    def __call__(self, stage_folder: Path, number: int, target: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class Stage:
    """A function by its place "module:name", the folder of its inputs, and where the result of each task appears."""

    function: str
    folder: Path
    targets: tuple[Path, ...]

    @property
    def logs(self) -> Path:
        """Everything that is told about tasks, by us or by a cluster."""
        return self.folder / LOGS_NAME

    def missing(self) -> list[int]:
        """Tasks that have no result yet."""
        return [number for number, target in enumerate(self.targets) if not target.exists()]


@dataclass(frozen=True, slots=True)
class TaskRunner:
    """Some tasks of a stage as a step that datatrove can call: rank is a place in numbers."""

    stage: Stage
    numbers: tuple[int, ...]

    def __call__(self, data: object, rank: int, world_size: int) -> None:
        """Run one task. Raises PlatformError, whatever went wrong, and leaves a record of it."""
        number = self.numbers[rank]
        try:
            run_task(self.stage, number)
        except Exception as error:
            known = _as_platform_error(error, self.stage, number)
            # of a stage that was given up, and whose folder is gone, nobody asks
            with suppress(OSError):
                _note(known, error, self.stage.logs / FAILED.format(number))
            raise known from None

    def __reduce__(self) -> "tuple[Callable[[Stage, tuple[int, ...]], TaskRunner], tuple[Stage, tuple[int, ...]]]":
        return _arrive, (self.stage, self.numbers)


def run_task(stage: Stage, number: int) -> None:
    """Run one task in this process, unless its result is there."""
    target = stage.targets[number]
    if not target.exists():
        module, _, name = stage.function.partition(":")
        function: TaskFunction = getattr(importlib.import_module(module), name)
        function(stage.folder, number, target)


def first_failure(stage: Stage) -> PlatformError | None:
    """What the failed task of the least number told; None when no task told anything."""
    found = min(stage.logs.glob("failed-*.json"), default=None)
    if found is None:
        return None
    record = json.loads(found.read_bytes())
    kind: type[PlatformError] = getattr(errors, record["kind"], PlatformError)
    return kind(record["message"], record["hint"])


def guard_far_worker(logs: Path) -> None:
    """Make a worker that may run on another machine stay offline; what it tries is noted among the logs."""
    use_journal(str(logs / EGRESS.format(socket.gethostname(), os.getpid())))
    go_offline()


def take_far_attempts(stage: Stage) -> None:
    """Put what workers on other machines noted into the record of this command."""
    for path in sorted(stage.logs.glob(EGRESS.format("*", "*"))):
        adopt_journal(path)


def silence() -> None:
    """Keep datatrove quiet: its logs would break the progress line, and quote the texts that a failed task held."""
    from loguru import logger

    logger.disable("datatrove")


def _arrive(stage: Stage, numbers: tuple[int, ...]) -> TaskRunner:
    """Unpickle in a worker."""
    silence()
    return TaskRunner(stage, numbers)


def _as_platform_error(error: Exception, stage: Stage, number: int) -> PlatformError:
    if isinstance(error, PlatformError):
        return error
    place = traceback.extract_tb(error.__traceback__)[-1]
    return PlatformError(
        f"This is a bug: {type(error).__name__}: {error} ({place.filename}:{place.lineno})"
        f" in task {number} of {stage.folder.name}.",
        f"The traceback lies in {stage.logs / FAILED.format(number)}; report it.",
    )


def _note(known: PlatformError, error: Exception, path: Path) -> None:
    """Write a record that the owner alone may read: a message may quote what a file holds."""
    lines = traceback.format_exception(error)
    record = {"kind": type(known).__name__, "message": known.message, "hint": known.hint, "traceback": lines}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as stream:
        json.dump(record, stream)
    scratch.replace(path)
