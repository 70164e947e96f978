"""All vLLM servers of one gateway: each is to hold the same adapters, and none gets requests before it does.

Nothing in vLLM shares adapters between servers or keeps them across a restart: what is wanted is kept here, and each
server is brought to it again and again.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from finetune.contracts.adapter import ReferenceProbe
from finetune.contracts.errors import PlatformError
from serving.adapters.probe import judge
from serving.engines.base import ProbeReading
from serving.engines.replica import Replica, ReplicaGone
from serving.errors import EngineError

LOGGER = logging.getLogger("serving")
POLL_SECONDS = 1.0
NONE_LEFT = EngineError("No vLLM server can answer now.", "GET /readyz says when one can; ask again then.")


@dataclass(frozen=True)
class WantedAdapter:
    """An adapter that every server is to hold: the name that it never shares, its folder, and how it is recognised."""

    name: str
    folder: str
    probe: ReferenceProbe


class Fleet:
    """Some vLLM servers. Every method runs on one event loop."""

    def __init__(self, replicas: Sequence[Replica], *, poll_seconds: float = POLL_SECONDS) -> None:
        self.replicas = tuple(replicas)
        self._poll_seconds = poll_seconds
        self._wanted: dict[str, WantedAdapter] = {}
        self._watches: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether a server can answer with every adapter that is wanted."""
        return any(one.in_service and one.resident >= self._wanted.keys() for one in self.replicas)

    async def start(self) -> None:
        """Ask every server once, then look after each for ever."""
        await asyncio.gather(*(self._tend(replica) for replica in self.replicas))
        self._watches = [asyncio.ensure_future(self._watch(replica)) for replica in self.replicas]

    async def stop(self) -> None:
        """Look after none any more, and close the connections. What the servers hold stays there."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await asyncio.gather(*(replica.close() for replica in self.replicas))

    def choose(self, name: str | None, *, but: Collection[Replica] = ()) -> Replica:
        """The server that holds the adapter, None: any, with the fewest requests. Raises EngineError for none."""
        fit = [
            one for one in self.replicas if one.in_service and one not in but and (name is None or name in one.resident)
        ]
        if not fit:
            raise NONE_LEFT
        return min(fit, key=lambda one: one.num_active)

    def lost(self, replica: Replica, reason: ReplicaGone) -> None:
        """Send nothing more to a server that failed, until it has been looked after."""
        if replica.in_service:
            LOGGER.warning("out of service: %s", reason.detail)
        replica.in_service = False

    async def attach(self, adapter: WantedAdapter) -> ProbeReading:
        """Let every server that is in service hold the adapter, and prove on each that it acts.

        A server that cannot be reached goes out of service and gets it before it comes back. When one refuses, or none
        is left, this raises, and the caller is to detach. Attaches and detaches come one at a time.
        """
        places = [one for one in self.replicas if one.in_service]
        results = await asyncio.gather(*(self._place(one, adapter) for one in places), return_exceptions=True)
        readings = [result for result in results if isinstance(result, ProbeReading)]
        for replica, result in zip(places, results, strict=True):
            if isinstance(result, ReplicaGone):
                self.lost(replica, result)
            elif isinstance(result, BaseException):
                raise result
        if not readings:
            raise NONE_LEFT
        self._wanted[adapter.name] = adapter
        return readings[0]

    async def detach(self, name: str) -> bool:
        """Take an adapter off everywhere; False when a server could not be told, which is told when it comes back."""
        self._wanted.pop(name, None)
        for replica in self.replicas:
            replica.retired.add(name)
        results = await asyncio.gather(*(self._clear(one) for one in self.replicas), return_exceptions=True)
        return not any(isinstance(result, BaseException) for result in results)

    async def _place(self, replica: Replica, adapter: WantedAdapter) -> ProbeReading:
        async with replica.changing:
            return await _hold(replica, adapter)

    async def _clear(self, replica: Replica) -> None:
        async with replica.changing:
            if not replica.in_service:
                raise ReplicaGone(replica.address, "out of service")
            for name in tuple(replica.retired):
                await replica.unload(name)

    async def _watch(self, replica: Replica) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self._tend(replica)

    async def _tend(self, replica: Replica) -> None:
        """See what a server holds, give it what it lacks, and let it answer if it has everything."""
        try:
            async with replica.changing:
                await replica.refresh()
                for name in replica.retired & replica.resident:
                    await replica.unload(name)
                replica.retired.clear()
                if not replica.resident >= self._wanted.keys():
                    replica.in_service = False
            await self._bring(replica)
        except ReplicaGone as error:
            self.lost(replica, error)
        except PlatformError as error:
            LOGGER.error("%s stays out of service: %s", replica.address, error.message)
        else:
            if not replica.in_service:
                LOGGER.warning("in service: %s", replica.address)
            replica.in_service = True

    async def _bring(self, replica: Replica) -> None:
        """Load what is wanted and lacking; what comes to be wanted meanwhile is loaded too."""
        while lacking := [one for name, one in self._wanted.items() if name not in replica.resident]:
            async with replica.changing:
                # it may have been taken off while this waited
                if lacking[0].name in self._wanted:
                    await _hold(replica, lacking[0])


async def _hold(replica: Replica, adapter: WantedAdapter) -> ProbeReading:
    replica.retired.discard(adapter.name)
    await replica.load(adapter.name, adapter.folder)
    reading = await replica.measure(adapter.name, adapter.probe)
    judge(reading, adapter.probe)
    return reading
