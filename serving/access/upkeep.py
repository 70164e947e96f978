"""What a server writes while it runs goes to the disk once a second, never on the event loop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

LOGGER = logging.getLogger("serving")
SAVE_SECONDS = 1.0


@asynccontextmanager
async def kept_up(*saves: Callable[[], None]) -> AsyncIterator[None]:
    """Call each of saves in another thread once a second while the block runs, and a last time at its end."""
    task = asyncio.create_task(_keep(saves))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await _save(saves)


async def _keep(saves: tuple[Callable[[], None], ...]) -> None:
    while True:
        await asyncio.sleep(SAVE_SECONDS)
        await _save(saves)


async def _save(saves: tuple[Callable[[], None], ...]) -> None:
    for save in saves:
        try:
            await asyncio.to_thread(save)
        except Exception:
            # the next second tries again
            LOGGER.exception("what the server counts could not be written")
