"""The one thread that owns the model: jobs run in the order in which they came.

PEFT's switches are not safe across threads: two threads generating with different adapters on one model answer with
each other's adapter, without an exception. So everything that touches the model is a job here.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from finetune.contracts.errors import PlatformError
from serving.errors import BusyError, EngineError

ResultT = TypeVar("ResultT")
LOGGER = logging.getLogger("serving")
STOPPING = EngineError("The server is stopping.", "Start it again with `finetune serve start`.")
# Share of the newest duration in the running mean that Retry-After is taken from
NEWEST_SHARE = 0.2


class Job(Protocol):
    """run does the work; abandon ends it without, or ends it early when it runs. limited jobs count as requests."""

    limited: bool

    def run(self) -> None: ...

    def abandon(self, error: PlatformError) -> None: ...


class ModelThread:
    """A first-in first-out queue with one worker. At most max_requests limited jobs may run or wait."""

    def __init__(self, *, max_requests: int) -> None:
        self._max_requests = max_requests
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._running: Job | None = None
        self._closing = False
        self._mean_seconds = 1.0
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are still taken."""
        return self._thread.is_alive() and not self._closing

    def submit(self, job: Job) -> None:
        """Queue a job. Raises BusyError when it is limited and there is no place, EngineError after close."""
        with self._changed:
            if not self.alive:
                raise STOPPING
            if job.limited:
                self._check_room()
            self._jobs.append(job)
            self._changed.notify()

    def check_room(self) -> None:
        """Raise BusyError when a limited job would be refused now."""
        with self._changed:
            self._check_room()

    def discard(self, job: Job) -> None:
        """Take a job out of the queue if it still waits."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)

    async def call(self, function: Callable[[], ResultT]) -> ResultT:
        """Run function on the thread, unlimited, and return its result to the event loop."""
        job = _Call(function)
        self.submit(job)
        return await job.future

    def close(self) -> None:
        """Abandon every job and wait for the thread to end."""
        with self._changed:
            self._closing = True
            waiting, self._jobs = list(self._jobs), deque()
            running = self._running
            self._changed.notify()
        for job in [*waiting, *([running] if running else [])]:
            job.abandon(STOPPING)
        self._thread.join()

    def _check_room(self) -> None:
        num = sum(job.limited for job in self._jobs) + (self._running is not None and self._running.limited)
        if num >= self._max_requests:
            raise BusyError(num_waiting=num, retry_after_seconds=max(1, math.ceil(self._mean_seconds)))

    def _work(self) -> None:
        while (job := self._next()) is not None:
            started = time.monotonic()
            try:
                job.run()
            except Exception:
                LOGGER.exception("a job of the model thread failed")
                job.abandon(EngineError("The engine failed.", "The server's log says why."))
            with self._changed:
                self._running = None
                if job.limited:
                    self._mean_seconds += NEWEST_SHARE * (time.monotonic() - started - self._mean_seconds)

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closing)
            self._running = None if self._closing else self._jobs.popleft()
            return self._running


class _Call(Generic[ResultT]):
    """One function whose result goes to a future of the event loop that asked."""

    limited = False

    def __init__(self, function: Callable[[], ResultT]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[ResultT] = self._loop.create_future()

    def run(self) -> None:
        try:
            result = self._function()
        except PlatformError as error:
            self.abandon(error)
        else:
            post(self._loop, self._settle, result)

    def abandon(self, error: PlatformError) -> None:
        post(self._loop, self._fail, error)

    def _settle(self, result: ResultT) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def _fail(self, error: PlatformError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def post(loop: asyncio.AbstractEventLoop, function: Callable[..., None], value: object) -> None:
    """Call function(value) on loop from any thread; nothing happens when the loop is closed already."""
    try:
        loop.call_soon_threadsafe(function, value)
    except RuntimeError:
        LOGGER.debug("an answer came after its event loop was closed")
