"""A thread with an event loop of its own: vLLM servers are looked after whoever asks, whichever loop that has."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from serving.errors import EngineError

ResultT = TypeVar("ResultT")
STOPPING = EngineError("The server is stopping.", "Start it again with `finetune serve start`.")


class ReplicaLoop:
    """Runs coroutines for other threads until close."""

    def __init__(self) -> None:
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="replicas", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether work is still taken."""
        return not self._closing

    async def call(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """The result of work, which is cancelled with the caller. Raises EngineError after close."""
        return await asyncio.wrap_future(self.start(work))

    def start(self, work: Coroutine[Any, Any, ResultT]) -> "Future[ResultT]":
        """Begin work; cancelling the future cancels it. Raises EngineError after close."""
        if self._closing:
            work.close()
            raise STOPPING
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancel what runs, run last, and end the thread; the second time nothing happens."""
        if self._closing:
            last.close()
            return
        self._closing = True
        asyncio.run_coroutine_threadsafe(_end(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end(last: Coroutine[Any, Any, None]) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await last
