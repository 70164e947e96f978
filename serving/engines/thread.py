"""The one thread that owns the model: it takes steps while there is work, and runs what is asked of it in between.

PEFT's switches are not safe across threads, and neither are a batch's: two threads on one model answer with each
other's adapter, without an exception. So everything that touches the model happens here.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from finetune.contracts.errors import PlatformError
from serving.errors import EngineError

ResultT = TypeVar("ResultT")
LOGGER = logging.getLogger("serving")
FAILED = EngineError("The engine failed.", "The server's log says why.")


class Work(Protocol):
    """What the thread goes on with. advance and abandon are called on the thread, busy on any."""

    @property
    def busy(self) -> bool: ...

    def advance(self) -> None: ...

    def abandon(self, error: PlatformError) -> None: ...


class ModelThread:
    """Takes a step of the work, then runs the calls that came meanwhile, and sleeps while there is neither."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._calls: deque[_Call] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether calls are still taken."""
        return self._thread.is_alive() and not self._closing

    def wake(self) -> None:
        """Say that there may be work again. Raises EngineError after close."""
        with self._changed:
            if not self.alive:
                raise stopping()
            self._changed.notify()

    async def call(self, function: Callable[[], ResultT]) -> ResultT:
        """Run function on the thread between two steps, and return its result to the event loop."""
        call = _Call(function)
        self._append(call)
        return await call.future

    def post(self, function: Callable[[], object]) -> None:
        """Run function as call does, for nobody. Nothing happens after close."""
        with suppress(EngineError):
            self._append(_Call(function))

    def _append(self, call: "_Call[Any]") -> None:
        with self._changed:
            if not self.alive:
                raise stopping()
            self._calls.append(call)
            self._changed.notify()

    def go_on(self) -> bool:
        """Take a step of the work, if there is any, in the middle of a call that takes long; whether one was taken."""
        assert threading.current_thread() is self._thread
        if self._closing or not self._work.busy:
            return False
        self._step()
        return True

    def close(self) -> None:
        """Abandon the work and all calls, and wait for the thread to end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            with self._changed:
                self._changed.wait_for(lambda: self._calls or self._closing or self._work.busy)
                call = self._calls.popleft() if self._calls else None
            if call:
                call.run()
            elif not self._closing:
                self._step()
        with self._changed:
            waiting, self._calls = self._calls, deque()
        for call in waiting:
            call.abandon(stopping())
        self._work.abandon(stopping())

    def _step(self) -> None:
        try:
            self._work.advance()
        except Exception:
            LOGGER.exception("a step of the model thread failed")
            self._work.abandon(FAILED)


def stopping() -> EngineError:
    """What is said after close. A new one each time: one that was raised holds, by its frames, what raised it."""
    return EngineError("The server is stopping.", "Start it again with `finetune serve start`.")


class _Call(Generic[ResultT]):
    """One function whose result goes to a future of the event loop that asked."""

    def __init__(self, function: Callable[[], ResultT]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[ResultT] = self._loop.create_future()

    def run(self) -> None:
        try:
            result = self._function()
        except PlatformError as error:
            self.abandon(error)
        except Exception:
            LOGGER.exception("a call of the model thread failed")
            self.abandon(FAILED)
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
