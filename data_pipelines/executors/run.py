"""Who runs the tasks of a stage: this process, datatrove's pool of processes, a Slurm cluster or Ray.

Tasks are numbered. Each reads only what lies in the stage's folder or is named there, and publishes its result under
a name that its content decides, when it is whole. So a task that was killed is run again, and one that is done is not.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from data_pipelines.config import RunSection
from data_pipelines.executors.stage import Stage, TaskRunner, first_failure, run_task, take_far_attempts
from finetune.contracts.errors import MachineError

__all__ = ["Executor", "Stage", "run_stage"]

# how often results are looked for: on this machine, and where a look is a request to a file server
POLL_SECONDS = 0.05
CLUSTER_POLL_SECONDS = 1.0
# how long another machine's result may stay unseen: what a file server's client keeps of folders lasts 30 to 60 seconds
LAG_SECONDS = 60.0
STOP_SECONDS = 5.0


class Executor(Protocol):
    """Runs all tasks, and can be told to give up."""

    def run_all(self) -> None:
        """Run every task to its end; what failed is told by a record beside the logs, or by an error."""

    def stop(self) -> None:
        """End what runs, at once; may be called again, from another thread than run_all."""


def run_stage(stage: Stage, section: RunSection, *, tick: Callable[[int], None]) -> None:
    """Run the tasks that have no result yet; tick gets the number of each as it is done, and may take the result away.

    A task that raises ends the stage; results that are there stay, and the same command goes on from them. Raises what
    a task raised, and MachineError when a task ended without a result.
    """
    waiting = stage.missing()
    workers = section.num_workers(len(waiting))
    if section.executor == "local" and (workers <= 1 or not _main_can_be_imported()):
        for number in waiting:
            run_task(stage, number)
            tick(number)
    elif waiting:
        executor = _executor(stage, section, numbers=waiting, workers=workers)
        far = section.executor == "slurm" or bool(section.ray_address)
        _watch(executor, stage, left=set(waiting), tick=tick, far=far)


def _main_can_be_imported() -> bool:
    """Workers import what the parent runs; a program that came by a pipe cannot be imported by anyone."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    return path is None or Path(path).exists()


def _watch(executor: Executor, stage: Stage, *, left: set[int], tick: Callable[[int], None], far: bool) -> None:
    """Start the executor in a thread of its own, and watch results appear. far: on other machines."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            executor.run_all()
        except BaseException as error:
            errors.append(error)

    def take() -> None:
        for number in _arrived(stage, left):
            left.discard(number)
            tick(number)

    thread = Thread(target=work, name="executor", daemon=True)
    thread.start()
    try:
        while left and thread.is_alive():
            take()
            time.sleep(CLUSTER_POLL_SECONDS if far else POLL_SECONDS)
        thread.join()
        take()
        deadline = time.monotonic() + LAG_SECONDS
        while far and left and not errors and not first_failure(stage) and time.monotonic() < deadline:
            time.sleep(CLUSTER_POLL_SECONDS)
            take()
    finally:
        _stop(executor, thread)
        take_far_attempts(stage)
    _check(stage, left, errors)


def _stop(executor: Executor, thread: Thread) -> None:
    """End the tasks of a thread that still runs, because of an error here or because the user has had enough."""
    deadline = time.monotonic() + STOP_SECONDS
    while thread.is_alive() and time.monotonic() < deadline:
        executor.stop()
        thread.join(POLL_SECONDS)


def _check(stage: Stage, left: set[int], errors: Sequence[BaseException]) -> None:
    if not left:
        return
    failure = first_failure(stage)
    if failure is not None:
        raise failure
    if errors:
        raise errors[0]
    raise MachineError(
        f"{len(left)} of {len(stage.targets)} tasks of {stage.folder.name} gave no result.",
        f"Their logs lie in {stage.logs}; run the same command again to go on.",
    )


def _arrived(stage: Stage, numbers: Iterable[int]) -> list[int]:
    """Tasks whose result is there. Folders are listed, because that is what makes a file server tell what is new."""
    there: dict[Path, frozenset[str]] = {}
    found = []
    for number in sorted(numbers):
        target = stage.targets[number]
        if target.parent not in there:
            there[target.parent] = frozenset(os.listdir(target.parent))
        if target.name in there[target.parent]:
            found.append(number)
    return found


def _executor(stage: Stage, section: RunSection, *, numbers: Sequence[int], workers: int) -> Executor:
    # datatrove marks completion by rank under its log folder; ours is by content, so its marks are not asked
    options: dict[str, Any] = {
        "pipeline": [TaskRunner(stage, tuple(numbers))],
        "tasks": len(numbers),
        "logging_dir": str(stage.logs),
        "skip_completed": False,
        "workers": workers,
    }
    if section.executor == "slurm":
        from data_pipelines.executors.slurm import SlurmExecutor

        return SlurmExecutor.of(section, options, job_name=f"finetune-{stage.folder.name}")
    if section.executor == "ray":
        from data_pipelines.executors.ray import open_ray

        return open_ray(section, options)
    from data_pipelines.executors.local import LocalExecutor

    return LocalExecutor(**options)
