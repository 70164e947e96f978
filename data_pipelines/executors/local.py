"""datatrove's local executor over a pool that notices when a worker is killed; its own would wait for ever."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, forkserver, get_context, parent_process, resource_tracker
from threading import Thread, current_thread, main_thread
from typing import Any

from datatrove.executor import LocalPipelineExecutor

from data_pipelines.executors.stage import silence
from finetune.contracts.errors import MachineError
from finetune.guard.offline import go_offline
from finetune.guard.record import journal_path, use_journal

# what a worker runs; set once in each, so that the list of all tasks does not travel with every one of them
_RUNS: list["LocalExecutor"] = []


class LocalExecutor(LocalPipelineExecutor):  # type: ignore[misc]
    """Runs every rank in one of self.workers processes."""

    def __init__(self, **options: Any) -> None:
        silence()
        _start_servers()
        super().__init__(**options)

    def run_all(self) -> None:
        """Run all ranks; the first error ends the run. Raises MachineError when a worker is killed."""
        context = get_context("forkserver")
        with ProcessPoolExecutor(self.workers, context, initializer=_begin, initargs=(self, journal_path())) as pool:
            try:
                waiting = [pool.submit(_run, rank) for rank in range(self.tasks)]
                for future in as_completed(waiting):
                    future.result()
            except BrokenProcessPool as cause:
                raise MachineError(
                    "A worker process was killed; most often the machine had too little memory.",
                    "Set run.workers to a smaller number in a pipeline file, then run the same command again.",
                ) from cause
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Kill the workers; the pool then ends by itself. What they had not published is done again."""
        for child in active_children():
            child.kill()


def _start_servers() -> None:
    """Start what multiprocessing keeps beside a pool, deaf to the terminal's end: it goes when the parent has gone."""
    if current_thread() is not main_thread():
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        resource_tracker.ensure_running()
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, before or signal.SIG_DFL)


def _begin(executor: LocalExecutor, journal: str | None) -> None:
    """Make a worker ready: offline, deaf to the terminal's Ctrl-C, and never left alone by its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # the server that workers are forked from has the environment in which it was started
    use_journal(journal)
    go_offline()
    _RUNS[:] = [executor]
    Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    # the queue's pipe has an end in each worker, so it does not close when the parent dies
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


def _run(rank: int) -> None:
    _RUNS[0]._run_for_rank(rank, rank)
