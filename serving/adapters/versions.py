"""The versions of adapters that the engine holds, each immutable under a name of its own, and who uses them now."""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.errors import AdapterError, PlatformError
from serving.adapters.copies import Copy
from serving.adapters.measures import AdapterMeasures
from serving.adapters.probe import judge
from serving.adapters.store import AdapterStore, check_trusted, without_folder
from serving.aside import aside
from serving.engines.base import Engine
from serving.errors import AdapterConflictError, AdapterUntrustedError, EngineError


class VersionState(StrEnum):
    """Where a version is in its life; a refused or evicted one is known no more.

    Fetching: it is copied to where it stays while it is served. Validating: it is read and probed.
    """

    FETCHING = "fetching"
    VALIDATING = "validating"
    RESIDENT = "resident"
    DRAINING = "draining"


@dataclass(eq=False)
class Version:
    """An adapter's content in the engine. slot is the engine's own name for it, never used twice.

    adapter_id ends in the digest of the weights, so it names this very content. folder is its copy, once that is made.
    """

    slot: str
    manifest: AdapterManifest
    folder: Path
    loaded_at: int
    state: VersionState = VersionState.FETCHING
    copy: Copy | None = None
    leases: set["Lease"] = field(default_factory=set)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def adapter_id(self) -> str:
        """What clients are told answered."""
        return self.manifest.adapter_id

    @property
    def num_active(self) -> int:
        """Requests that use it now."""
        return len(self.leases)

    def lease(self) -> "Lease":
        """The right to use it."""
        return Lease(self, name=self.adapter_id)


class Lease:
    """The right to use a version until release; version None is the base. name tells exactly what answers."""

    def __init__(self, version: Version | None, *, name: str) -> None:
        self._version = version
        self._end: Callable[[PlatformError], None] | None = None
        self.slot = version.slot if version else None
        self.name = name
        if version:
            version.leases.add(self)
            version.idle.clear()

    def when_ended(self, end: Callable[[PlatformError], None]) -> None:
        """Call end if the version must go before the lease is given back."""
        self._end = end

    def end(self, error: PlatformError) -> None:
        """Tell the holder that the version goes now."""
        if self._end:
            self._end(error)

    def release(self) -> None:
        """Give the lease back; calling it again does nothing."""
        version, self._version = self._version, None
        if version:
            version.leases.discard(self)
            if not version.leases:
                version.idle.set()


class Versions:
    """What is in the engine. Every method runs on one event loop at a time, and load and retire one at a time."""

    def __init__(self, engine: Engine, store: AdapterStore, *, drain_seconds: float, measures: AdapterMeasures) -> None:
        self._engine = engine
        self._store = store
        self._drain_seconds = drain_seconds
        self._measures = measures
        self._held: dict[str, Version] = {}
        self._numbers = itertools.count()

    @property
    def held(self) -> tuple[Version, ...]:
        """All of them, those that drain included, in the order of loading."""
        return tuple(self._held.values())

    @property
    def resident(self) -> tuple[Version, ...]:
        """Those that may be given to new requests."""
        return tuple(one for one in self._held.values() if one.state is VersionState.RESIDENT)

    async def check(self, folder: Path) -> AdapterManifest:
        """The manifest of the adapter in folder, found whole and fit for this base; see AdapterStore.check."""
        with self._measures.timed("check"):
            return await aside(self._store.check, folder, self._engine.description)

    def find(self, manifest: AdapterManifest) -> Version | None:
        """The resident version of that very content."""
        return next((one for one in self.resident if one.manifest == manifest), None)

    async def untrusted(self) -> dict[str, str]:
        """Why the policy takes residents no more, by slot. Raises AdapterUntrustedError where it cannot be read."""
        # read once: what a person writes at this moment must not be judged by its half
        trust = await asyncio.to_thread(self._store.read_trust)
        if trust is None:
            return {}
        found = {}
        for version in self.resident:
            try:
                await asyncio.to_thread(check_trusted, trust, version.folder, version.manifest)
            except AdapterUntrustedError as error:
                found[version.slot] = error.message
        return found

    async def load(self, folder: Path, manifest: AdapterManifest) -> Version:
        """Copy the adapter in folder, attach that and let it answer its probe. When this raises, nothing is left."""
        version = Version(f"slot{next(self._numbers):06d}", manifest, folder, loaded_at=int(time.time()))
        version.idle.set()
        self._held[version.slot] = version
        try:
            await self._fetch(version)
            await self._attach(version)
        except AdapterError as error:
            raise without_folder(without_folder(error, folder), version.folder) from error
        finally:
            if version.state is not VersionState.RESIDENT:
                del self._held[version.slot]
                await self._give_back(version)
        return version

    async def attach_again(self, version: Version) -> None:
        """Attach a resident version to an engine that has lost it; when this raises, it is held no more.

        Raises AdapterConflictError when its folder holds another adapter by now, and what check and load raise.
        """
        version.state = VersionState.VALIDATING
        try:
            if await self.check(version.folder) != version.manifest:
                raise AdapterConflictError(
                    f"{version.adapter_id} is no longer where it was loaded from.", "Load it again."
                )
            await self._attach(version)
        except AdapterError as error:
            raise without_folder(error, version.folder) from error
        finally:
            if version.state is not VersionState.RESIDENT:
                del self._held[version.slot]
                await self._give_back(version)

    async def sweep(self) -> None:
        """Remove copies that nobody uses and no state names."""
        await asyncio.to_thread(self._store.copies.sweep, self._store.is_withdrawn)

    def retire(self, version: Version) -> Coroutine[Any, Any, None]:
        """Give a resident version to no new request from now on; awaiting takes it off.

        That is when nobody uses it any more, or when drain_seconds have passed.
        """
        # before the first await: a load that comes in between must not find it
        version.state = VersionState.DRAINING
        return self._drain(version)

    async def _drain(self, version: Version) -> None:
        with self._measures.drain_seconds.time():
            await self._last_request(version)
        del self._held[version.slot]
        await self._engine.detach(version.slot)
        await self._give_back(version)

    async def _last_request(self, version: Version) -> None:
        try:
            await asyncio.wait_for(version.idle.wait(), self._drain_seconds)
        except TimeoutError:
            gone = EngineError(
                f"{version.adapter_id} was replaced and its time to finish is over.", "Ask again: the name is served."
            )
            for lease in tuple(version.leases):
                lease.end(gone)
                self._measures.cut_off.inc()

    async def _give_back(self, version: Version) -> None:
        if version.copy:
            version.copy.release()
            await self.sweep()

    async def _fetch(self, version: Version) -> None:
        def check(folder: Path) -> AdapterManifest:
            return self._store.check(folder, self._engine.description)

        copies, folder, manifest = self._store.copies, version.folder, version.manifest
        with self._measures.timed("fetch"):
            version.copy = await aside(copies.take, folder, manifest, check=check)
        version.folder = version.copy.folder
        version.state = VersionState.VALIDATING

    async def _attach(self, version: Version) -> None:
        began = time.monotonic()
        reading = await self._engine.attach(version.slot, version.folder, probe=version.manifest.probe)
        loading = self._measures.load_seconds
        loading.labels("attach").observe(time.monotonic() - began - reading.seconds)
        loading.labels("probe").observe(reading.seconds)
        try:
            judge(reading, version.manifest.probe)
        except AdapterError:
            await self._engine.detach(version.slot)
            raise
        version.state = VersionState.RESIDENT
