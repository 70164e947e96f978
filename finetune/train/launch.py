"""Start the processes of a run on this machine, watch them, and end them together.

torch's elastic launcher kills its workers 30 s after a signal, less than a step and a checkpoint of a large base take,
and its rendezvous listens on every interface; hence this one (docs/decisions/009-many-cards.md).
"""

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from finetune.contracts.errors import MachineError
from finetune.terminal.signals import on_signals
from finetune.train.rank_process import Outcome, log_of, work_as
from finetune.train.ranks import Ranks

T = TypeVar("T")
# After a failure the others may say theirs, and close what they have open
GRACE_SECONDS = 10.0
# After an interrupt the leader closes the record of the run, which may be on a server that is slow to answer
INTERRUPT_GRACE_SECONDS = 60.0


def run_ranks(work: Callable[[Ranks], T], num_processes: int, *, hint: str) -> T:
    """Let num_processes new processes do work, each with its rank, and return what rank 0 returned.

    work must be picklable. SIGINT and SIGTERM are passed on to all as SIGINT. When one fails, the others are ended, and
    the cause is raised here: its PlatformError; MachineError with hint when a process died without a word;
    KeyboardInterrupt when they were interrupted; RuntimeError for a bug.
    """
    with TemporaryDirectory(prefix="finetune-ranks-") as folder:
        group = _Group(num_processes, Path(folder))
        try:
            with on_signals((signal.SIGINT, signal.SIGTERM), group.interrupt):
                group.start(work)
                group.watch()
        finally:
            group.kill()
        found: T = group.verdict(hint)
        return found


class _Group:
    """The processes of one run, seen from the one that started them."""

    def __init__(self, size: int, folder: Path) -> None:
        self._size = size
        self._folder = folder
        self._num_interrupts = 0
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._outcomes: dict[int, Outcome] = {}
        self._exit_codes: dict[int, int] = {}

    def start(self, work: Callable[[Ranks], Any]) -> None:
        """Start all of them."""
        context = get_context("spawn")
        for rank in range(self._size):
            mine, theirs = context.Pipe(duplex=False)
            self._pipes.append(mine)
            # not a daemon: daemons may not have processes of their own
            given = {"folder": self._folder, "pipe": theirs}
            process = context.Process(target=work_as, args=(Ranks(rank, self._size), work), kwargs=given)
            self._processes.append(process)
            process.start()
            theirs.close()

    def interrupt(self) -> None:
        """Pass a signal on to those that run."""
        self._num_interrupts += 1
        for process in self._running():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)

    def watch(self) -> None:
        """Wait until all have ended, or until the grace after a failure is over."""
        deadline: float | None = None
        # a process that is not running any more is looked at before the next wait, or its end would not end that
        while running := self._running():
            self._collect()
            if deadline is None and (grace := self._grace()) is not None:
                deadline = time.monotonic() + grace
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                return
            connection.wait([process.sentinel for process in running], timeout=wait)

    def kill(self) -> None:
        """End at once what still runs."""
        self._collect()
        for process in self._processes:
            if process.pid is not None:
                process.kill()
                process.join()

    def verdict(self, hint: str) -> Any:
        """The leader's result, or the error that tells most of what went wrong."""
        told = sorted(self._outcomes.values(), key=lambda outcome: outcome.at)
        errors = [outcome.error for outcome in told if outcome.error is not None]
        if errors:
            raise errors[0]
        if len(told) == self._size and all(outcome.good for outcome in told):
            return self._outcomes[0].result
        if self._num_interrupts or any(outcome.interrupted for outcome in told):
            raise KeyboardInterrupt
        # who lost a neighbour reports a broken connection, so a death says more than a bug
        if self._exit_codes:
            raise MachineError(self._death(), hint)
        bug = next(outcome.bug for outcome in told if outcome.bug)
        raise RuntimeError(bug.splitlines()[-1]) from _RankTraceback(bug)

    def _running(self) -> list[BaseProcess]:
        return [process for process in self._processes if process.exitcode is None]

    def _collect(self) -> None:
        """Note what each said, and the exit code of each that ended and said nothing."""
        for rank, (process, pipe) in enumerate(zip(self._processes, self._pipes, strict=True)):
            if rank in self._outcomes or rank in self._exit_codes or process.pid is None:
                continue
            code = process.exitcode
            try:
                if pipe.poll():
                    self._outcomes[rank] = pipe.recv()
                    continue
            except EOFError:
                pass
            if code is not None:
                self._exit_codes[rank] = code

    def _grace(self) -> float | None:
        """How long the rest may go on: None as long as nobody failed."""
        bad = [outcome for outcome in self._outcomes.values() if not outcome.good]
        if self._exit_codes or any(not outcome.interrupted for outcome in bad):
            return GRACE_SECONDS
        if not bad:
            return None
        return INTERRUPT_GRACE_SECONDS if self._num_interrupts <= 1 else GRACE_SECONDS

    def _death(self) -> str:
        rank, code = next(iter(self._exit_codes.items()))
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        log = log_of(self._folder, rank)
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
        said = [line.strip() for line in lines if line.strip()][-1:]
        last = f" Its last line: {said[0]}" if said else ""
        return f"Process {rank + 1} of {self._size} {how}, so all were stopped.{last}"


class _RankTraceback(Exception):
    """The traceback of a process, as text, for --debug."""
