"""The log of who asked what, as a server writes it: nothing waits for the disk but changes, and a full disk is told.

Requests are written and synced once a second. A change is on the disk before it is made, so there is none without an
entry. While entries cannot be written, changes are refused and answers go on, or end too where the log is required;
what was lost is counted, and an entry says so when entries can be written again. See docs/decisions/028.
"""

import asyncio
import fcntl
import logging
import os
import threading
import time
from collections import Counter, deque
from pathlib import Path

from finetune.contracts.errors import MachineError
from finetune.contracts.io import disk_errors
from serving.access.audit_files import ASKED, GAP, REQUEST, STARTED, STOPPED, AuditEvent
from serving.access.audit_tail import Tail
from serving.access.rates import Rates
from serving.access.record import RequestRecord
from serving.errors import AuditError

LOGGER = logging.getLogger("serving")
MAX_FILE_BYTES = 16 << 20
# What may wait for a disk that takes nothing; an entry without prompts has about 500 bytes
MAX_WAITING_BYTES = 16 << 20
EVENT_BYTES = 500
# Refusals and listings of one caller, strangers together, that get entries of their own; the others are counted
SPARED_PER_MINUTE = 60
# HTTP status from which on an answer is a refusal, and a failure
ERROR, SERVER_ERROR = 400, 500
# What a client wrote may be long; a name that means something is not
MAX_LETTERS = 200


class AuditLog:
    """Appends to one chain of a home, which this process holds until close.

    series names the chain: a server's port. is_required: without entries there are no answers. note and admit are
    called on one event loop, save in any thread. Raises MachineError when another process holds the chain, RunError
    when it was altered: nothing is appended to it then.
    """

    def __init__(
        self, folder: Path, series: str, *, is_required: bool = False, max_file_bytes: int = MAX_FILE_BYTES
    ) -> None:
        self._is_required = is_required
        self._folder = folder
        self._series = series
        self._max_file_bytes = max_file_bytes
        self._waiting: deque[tuple[str, AuditEvent]] = deque()
        self._waiting_bytes = 0
        self._num_lost = 0
        self._left_out: Counter[str] = Counter()
        self._rates = Rates()
        # one writes at a time, and the queue is held for moments only: nobody on the event loop waits for the disk
        self._writing = threading.Lock()
        self._queue = threading.Lock()
        self._problem = ""
        with disk_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / f"{series}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._hold()
            self._tail = Tail.newest(folder, series)
            self._put(STARTED, AuditEvent(at_ms=_now_ms(), action="server started"))
            self.save()
            if self._problem:
                raise MachineError(f"The log in {folder} cannot be written: {self._problem}", "Free some space.")
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def is_written(self) -> bool:
        """Whether the disk took the newest entries."""
        return not self._problem

    async def admit(self, record: RequestRecord, *, is_change: bool) -> None:
        """Let a request in. A change is on the disk as asked for when this returns.

        Raises AuditError for one that may not be let in without an entry, while none can be written.
        """
        if is_change:
            is_kept = self._put(ASKED, _event(record))
            await asyncio.to_thread(self.save)
            if not is_kept:
                raise AuditError
        if self._problem and (is_change or self._is_required):
            raise AuditError

    def note(self, record: RequestRecord, *, status: int, seconds: float, is_spared: bool = False) -> None:
        """Write down within a second what became of a request, answered with that HTTP status.

        is_spared: of many of one caller, some are only counted.
        """
        event = _event(record, status=status, seconds=seconds)
        if is_spared and self._rates.wait(event.who, SPARED_PER_MINUTE):
            self._left_out[event.who] += 1
            return
        if event.who in self._left_out:
            event = event.model_copy(update={"num_left_out": self._left_out.pop(event.who)})
        self._put(REQUEST, event)

    def save(self) -> None:
        """Write what waits, and see that it is on the disk. What cannot be written goes on waiting."""
        with self._writing:
            with self._queue:
                batch, num_lost = list(self._waiting), self._num_lost
            if num_lost:
                lost = AuditEvent(at_ms=_now_ms(), action="entries lost", num_left_out=num_lost)
                batch.append((GAP, lost))
            if not batch:
                return
            try:
                self._tail = self._tail.following(self._max_file_bytes)
                self._tail.append(batch)
            except OSError as error:
                self._tell(f"{error.strerror or error}.")
                return
            with self._queue:
                for _, event in batch[: len(batch) - bool(num_lost)]:
                    self._waiting.popleft()
                    self._waiting_bytes -= _size(event)
                self._num_lost -= num_lost
            self._tell("")

    def close(self) -> None:
        """Write the last entry, and let go of the chain."""
        left_out = sum(self._left_out.values())
        self._put(STOPPED, AuditEvent(at_ms=_now_ms(), action="server stopped", num_left_out=left_out))
        self.save()
        os.close(self._lock)

    def _put(self, kind: str, event: AuditEvent) -> bool:
        """Let an entry wait to be written; False: there is no place, and it is counted as lost."""
        with self._queue:
            if self._waiting_bytes + _size(event) > MAX_WAITING_BYTES:
                self._num_lost += 1
                return False
            self._waiting_bytes += _size(event)
            self._waiting.append((kind, event))
            return True

    def _tell(self, problem: str) -> None:
        if problem and not self._problem:
            LOGGER.error("the log of requests in %s cannot be written: %s", self._folder, problem)
        elif self._problem and not problem:
            LOGGER.warning("the log of requests in %s is written again", self._folder)
        self._problem = problem

    def _hold(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MachineError(
                f"Another server writes the log {self._series} in {self._folder}.", "Stop it, or choose another port."
            ) from error


def _size(event: AuditEvent) -> int:
    return EVENT_BYTES + sum(map(len, event.prompts))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _event(record: RequestRecord, *, status: int = 0, seconds: float = 0.0) -> AuditEvent:
    # status 0: it is not answered yet
    outcome = record.outcome
    if not outcome and status:
        outcome = "failed" if status >= SERVER_ERROR else "refused" if status >= ERROR else "done"
    return AuditEvent(
        at_ms=record.at_ms,
        who=record.caller,
        key_id=record.key_id,
        action=_short(record.route),
        request_id=record.id,
        model=_short(record.model),
        adapter=_short(record.adapter),
        answered=record.answered,
        status=status,
        outcome=_short(outcome),
        reason=_short(record.reason),
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        seconds=round(seconds, 3),
        prompts=record.prompts,
    )


def _short(text: str) -> str:
    # JSON can spell half of a surrogate pair, which no file takes
    return text[:MAX_LETTERS].encode(errors="backslashreplace").decode()
