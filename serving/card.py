"""The server's side of one card for two jobs: leave when a job of this home wants the card, come back when it ended."""

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from finetune.contracts.card import Card, CardJob, CardServer
from finetune.contracts.errors import PlatformError
from finetune.terminal.output import note
from serving.adapters.registry import AdapterRegistry
from serving.settings import ServerSettings

if TYPE_CHECKING:
    from serving.engines.yielding import YieldingEngine

LOGGER = logging.getLogger("serving")
POLL_SECONDS = 0.25
# The memory of a killed process may be there a moment later; a base whose folder is gone is tried all the same
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 30.0


class CardHold:
    """A server's hold on its card: taken only while no job wants the card. The end of the block lets go."""

    def __init__(self, card: Card, server: CardServer) -> None:
        self.card = card
        self.server = server
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def take(self) -> CardJob | None:
        """Take the card, or leave it to the job that wants it, which is returned."""
        self._held.enter_context(self.card.served(self.server))
        # a job looks at servers after it said that it wants the card: one of the two sees the other
        job = self.card.wanted_by()
        if job is not None:
            self.release()
        return job

    def release(self) -> None:
        """Let go; calling it again does nothing."""
        self._held.close()


class CardWatch:
    """Lets one engine leave and come back, with the adapters that the registry holds under the same names."""

    def __init__(self, hold: CardHold, engine: "YieldingEngine", registry: AdapterRegistry) -> None:
        self._hold = hold
        self._engine = engine
        self._registry = registry

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                job = await self._wanted_by()
                if job is None:
                    await asyncio.sleep(POLL_SECONDS)
                elif await self._leave(job):
                    await self._come_back()
        except Exception:
            LOGGER.exception("the card is watched no more: start the server again")
            raise

    async def _wanted_by(self) -> CardJob | None:
        return await asyncio.to_thread(self._hold.card.wanted_by)

    async def _leave(self, job: CardJob) -> bool:
        """Free the card, unless the job changes its mind while answers end: then False."""
        note(f"{job.does} (process {job.pid}) wants the card: no new requests, and those that run may end.")
        await self._registry.leave()
        drained = asyncio.ensure_future(self._engine.drain(away_text(job), seconds=self._hold.server.drain_seconds))
        try:
            while not drained.done():
                await asyncio.wait({drained}, timeout=POLL_SECONDS)
                if not drained.done() and await self._wanted_by() is None:
                    self._engine.open()
                    self._tell(await self._registry.stay())
                    note("The card is not wanted any more: serving goes on.")
                    return False
        finally:
            drained.cancel()
        await drained
        await self._engine.free()
        self._hold.release()
        note(f"The card is left to {job.does}.")
        return True

    async def _come_back(self) -> None:
        retry_seconds = FIRST_RETRY_SECONDS
        while True:
            job = self._hold.take()
            if job is not None:
                self._engine.away = away_text(job)
                await asyncio.sleep(POLL_SECONDS)
                continue
            try:
                await self._engine.reload()
                break
            except PlatformError as error:
                LOGGER.error("the base cannot be loaded again: %s", error)
            except Exception:
                LOGGER.exception("the base cannot be loaded again")
            self._hold.release()
            self._engine.away = "The server cannot load its base again, and tries it."
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(2 * retry_seconds, LAST_RETRY_SECONDS)
        self._tell(await self._registry.come_back())
        self._engine.open()
        note("The card is free again: serving goes on.")

    @staticmethod
    def _tell(problems: Sequence[str]) -> None:
        for problem in problems:
            note(f"Not served as wanted: {problem}")


def server_hold(folder: Path, settings: ServerSettings, *, url: str) -> CardHold:
    """The hold of this process' server at url on its card, which is not taken yet; folder is Home.cards."""
    from serving.engines.yielding import engine_card

    server = CardServer(pid=os.getpid(), url=url, yields=settings.yields_card, drain_seconds=settings.drain_seconds)
    return CardHold(engine_card(folder), server)


def away_text(job: CardJob) -> str:
    """What clients are told."""
    return f"The server has left its card to {job.does}, and comes back by itself when that ends."
