"""An engine that can leave its device and come back to it, in one process."""

import asyncio
import ctypes
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import torch

from finetune.contracts.adapter import ReferenceProbe
from finetune.contracts.card import Card
from finetune.contracts.errors import BaseModelError, PlatformError
from finetune.model.cards import cards
from serving.engines.base import Delta, Engine, Generation, GenerationRequest, Occupancy, ProbeReading
from serving.errors import AwayError, EngineError


class YieldingEngine:
    """Passes everything on to the engine that load makes, while there is one.

    To leave is drain, then free; to come back is reload, then attach what there was, then open.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._engine: Engine | None = load()
        self._running: set[_Running] = set()
        self._idle = asyncio.Event()
        self._slots: set[str] = set()
        self._closed = False
        self.description = self._engine.description
        self.away: str | None = None

    @property
    def ready(self) -> bool:
        """False while it is away, too; away is the reason then."""
        return self.away is None and self._engine is not None and self._engine.ready

    @property
    def occupancy(self) -> Occupancy:
        """See Engine; nothing while there is none."""
        return self._engine.occupancy if self._engine is not None else Occupancy(0, 0, adapter_bytes=0)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Accept a request; see Engine. Raises AwayError from drain to open."""
        if self.away is not None:
            raise AwayError(self.away)
        running = _Running(self._ended)
        # before the first await: draining must wait for it
        self._running.add(running)
        try:
            await running.begin(self._present().generate(request))
        except BaseException:
            running.end()
            raise
        return running

    async def attach(self, slot: str, folder: Path, *, probe: ReferenceProbe) -> ProbeReading:
        """Load an adapter; see Engine. Raises AwayError from free to reload."""
        reading = await self._present().attach(slot, folder, probe=probe)
        self._slots.add(slot)
        return reading

    async def detach(self, slot: str) -> None:
        """Take an adapter off; what went with an engine that was freed is off already."""
        if self._engine is not None and slot in self._slots:
            self._slots.remove(slot)
            await self._engine.detach(slot)

    async def drain(self, why: str, *, seconds: float) -> None:
        """Refuse new requests, saying why, and wait until those that run have ended; after seconds they are ended."""
        self.away = why
        try:
            await asyncio.wait_for(self._all_ended(), seconds)
        except TimeoutError:
            for running in tuple(self._running):
                running.fail(
                    EngineError("The server gave its card away before this answer ended.", "Ask again when it is back.")
                )
            # those that the engine is about to accept see that then
            await self._all_ended()

    async def _all_ended(self) -> None:
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    async def free(self) -> None:
        """Close the engine and give back the memory of its model and adapters."""
        engine, self._engine = self._engine, None
        self._slots.clear()
        if engine is not None:
            await asyncio.to_thread(engine.close)
            del engine
            await asyncio.to_thread(give_back_memory)

    async def reload(self) -> None:
        """Make a new engine, without adapters. Raises what load does, BaseModelError when it is another base now."""
        engine = await asyncio.to_thread(self._load)
        if self._closed or engine.description != self.description:
            await asyncio.to_thread(engine.close)
            raise BaseModelError(
                f"The base {self.description.identity.name} is no longer what was served.", "Start the server again."
            )
        self._engine = engine

    def open(self) -> None:
        """Accept requests again."""
        self.away = None

    def close(self) -> None:
        """See Engine."""
        self._closed = True
        if self._engine is not None:
            self._engine.close()

    def _present(self) -> Engine:
        if self._engine is None:
            raise AwayError(self.away or "")
        return self._engine

    def _ended(self, running: "_Running") -> None:
        self._running.discard(running)
        if not self._running:
            self._idle.set()


class _Running:
    """A request until its answer has ended. Then it holds nothing of the engine, however slowly its client reads."""

    def __init__(self, ended: Callable[["_Running"], None]) -> None:
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0
        self.truncated = False
        self._ended = ended
        self._generation: Generation | None = None
        self._error: PlatformError | None = None

    async def begin(self, accepting: Awaitable[Generation]) -> None:
        """Wait until the engine has accepted it. Raises what it was failed with meanwhile."""
        generation = await accepting
        if self._error is not None:
            generation.cancel()
            raise self._error.with_traceback(None)
        self._generation = generation
        self.num_prompt_tokens, self.truncated = generation.num_prompt_tokens, generation.truncated

    async def __aiter__(self) -> AsyncIterator[Delta]:
        try:
            if (generation := self._generation) is not None:
                async for delta in generation:
                    self.num_cached_tokens = generation.num_cached_tokens
                    yield delta
        finally:
            self.end()

    def cancel(self) -> None:
        if self._generation is not None:
            self._generation.cancel()
        self.end()

    def fail(self, error: PlatformError) -> None:
        self._error = error
        if self._generation is not None:
            self._generation.fail(error)
            self.end()

    def end(self) -> None:
        """Give its place back."""
        self._generation = None
        self._ended(self)


def engine_card(folder: Path) -> Card:
    """The card that load_engine would take, kept in folder."""
    return cards(folder)[0]


def give_back_memory() -> None:
    """Let the system and the driver have what freed objects took."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        # weights in small pieces lie among what stays
        trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
