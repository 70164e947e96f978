"""Which adapter is served under which name: a name keeps its content for as long as it is served.

A request holds a lease on what its model's name meant when it came. Unloading takes the name away at once and the
weights only when the last lease is given back, so a running answer never changes its adapter.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.errors import AdapterError
from serving.adapters.probe import judge
from serving.adapters.store import NAME, AdapterStore, without_folder
from serving.engines.base import Engine
from serving.errors import AdapterConflictError, AdapterMissingError, RequestError


@dataclass
class ServedAdapter:
    """slot is the engine's own name for it, never used twice; num_active counts the leases."""

    name: str
    slot: str
    manifest: AdapterManifest
    loaded_at: int
    num_active: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Lease:
    """The right to use a slot until release; slot None is the base. version tells the client exactly what answered."""

    def __init__(self, adapter: ServedAdapter | None, *, version: str) -> None:
        self._adapter = adapter
        self._held = True
        self.slot = adapter.slot if adapter else None
        self.version = version
        if adapter:
            adapter.num_active += 1
            adapter.idle.clear()

    def release(self) -> None:
        """Give the lease back; calling it again does nothing."""
        if not self._held:
            return
        self._held = False
        if self._adapter:
            self._adapter.num_active -= 1
            if self._adapter.num_active == 0:
                self._adapter.idle.set()


class AdapterRegistry:
    """Names of one engine's base and adapters. Every method runs on one event loop at a time."""

    def __init__(self, engine: Engine, store: AdapterStore, *, max_adapters: int) -> None:
        self._engine = engine
        self._store = store
        self._max_adapters = max_adapters
        self._served: dict[str, ServedAdapter] = {}
        self._changing = asyncio.Lock()
        self._numbers = itertools.count()
        self.base_name = engine.description.identity.name

    @property
    def served(self) -> tuple[ServedAdapter, ...]:
        """What is served now, in the order of loading."""
        return tuple(self._served.values())

    def available(self) -> list[str]:
        """Ids in the adapters folder."""
        return self._store.available()

    def lease(self, model: str) -> Lease:
        """Resolve the name in a request. Raises RequestError, status 404, when nothing is served under it."""
        if model == self.base_name:
            return Lease(None, version=f"base-{self._engine.description.identity.digest[:12]}")
        adapter = self._served.get(model)
        if adapter is None:
            raise RequestError(
                f"The model {model!r} is not served here.",
                "GET /v1/models lists what is.",
                param="model",
                code="model_not_found",
                status=404,
            )
        return Lease(adapter, version=adapter.manifest.adapter_id)

    async def load(self, name: str, reference: str) -> ServedAdapter:
        """Verify, attach, probe and serve the adapter with an id or path inside the adapters folder, under name."""
        self._check_name(name)
        return await self.load_folder(name, await asyncio.to_thread(self._store.find, reference))

    async def load_folder(self, name: str, folder: Path) -> ServedAdapter:
        """load for a folder that the operator of the server named. Each refusal leaves what is served as it was."""
        self._check_name(name)
        async with self._changing:
            self._check_free(name)
            manifest = await asyncio.to_thread(self._store.check, folder, self._engine.description)
            adapter = ServedAdapter(name, f"slot{next(self._numbers):06d}", manifest, loaded_at=int(time.time()))
            adapter.idle.set()
            try:
                await self._attach(adapter, folder)
            except AdapterError as error:
                raise without_folder(error, folder) from error
            self._served[name] = adapter
            return adapter

    async def unload(self, name: str) -> None:
        """Stop serving name now; the weights go when the requests that came before have ended."""
        adapter = self._served.pop(name, None)
        if adapter is None:
            raise AdapterMissingError(f"No adapter is served as {name!r}.", "GET /v1/adapters lists those that are.")
        await adapter.idle.wait()
        await self._engine.detach(adapter.slot)

    async def _attach(self, adapter: ServedAdapter, folder: Path) -> None:
        reading = await self._engine.attach(adapter.slot, folder, probe=adapter.manifest.probe)
        try:
            judge(reading, adapter.manifest.probe)
        except AdapterError:
            await self._engine.detach(adapter.slot)
            raise

    def _check_name(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise RequestError(
                "An adapter's name has 1 to 128 letters, digits, dots, dashes and underscores.",
                "Choose another name.",
                param="lora_name",
                code="adapter_name_invalid",
            )

    def _check_free(self, name: str) -> None:
        if name == self.base_name or name in self._served:
            raise AdapterConflictError(
                f"The name {name!r} is in use.", "Unload it first, or load the adapter under another name."
            )
        if len(self._served) >= self._max_adapters:
            raise AdapterConflictError(
                f"{self._max_adapters} adapters are served, which is the limit.", "Unload one first."
            )
