"""Which adapter version a client's name stands for now: names move between versions, and versions never change.

A request holds a lease on what its name meant when it came, so a running answer keeps its adapter, whatever the name
comes to mean. The version before is kept for going back.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.errors import PlatformError
from serving.access.names import DEFAULT_RULES, NameRules
from serving.access.scopes import OPERATOR, Caller
from serving.adapters.aliases import Alias, Move, Waiting, desired, restored_history
from serving.adapters.desired import DesiredAlias, StateFile
from serving.adapters.measures import AdapterMeasures
from serving.adapters.names import alias_missing, check_name, model_missing, name_taken
from serving.adapters.store import AdapterStore, adapter_missing
from serving.adapters.table import NameTable
from serving.adapters.trials import Trial
from serving.adapters.versions import Lease, Version, Versions
from serving.engines.base import Engine
from serving.errors import AdapterConflictError


class AdapterRegistry:
    """Names of one engine's base and adapters. Every method runs on one event loop at a time.

    Loads, moves and unloads follow one another; requests never wait for them. state None: a restart begins anew.
    """

    def __init__(
        self,
        engine: Engine,
        store: AdapterStore,
        *,
        max_adapters: int,
        drain_seconds: float = 300.0,
        state: StateFile | None = None,
        rules: NameRules = DEFAULT_RULES,
    ) -> None:
        self._engine = engine
        self._store = store
        self._max_adapters = max_adapters
        self.measures = AdapterMeasures()
        self._versions = Versions(engine, store, drain_seconds=drain_seconds, measures=self.measures)
        self._names = NameTable(state)
        self.rules = rules
        self._aliases, self._waiting, self._unserved = self._names.aliases, self._names.waiting, self._names.unserved
        self._changing = asyncio.Lock()
        self._draining: set[asyncio.Task[None]] = set()
        self._away = False
        self.base_name = engine.description.identity.name

    @property
    def served(self) -> tuple[Alias, ...]:
        """The names that are served now, in the order of their first load."""
        return tuple(self._aliases.values())

    @property
    def versions(self) -> tuple[Version, ...]:
        """What the engine holds, with what is kept for going back and what drains."""
        return self._versions.held

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """The names that will stand for something else when the engine is back."""
        return tuple(self._waiting.values())

    def serves(self, name: str) -> bool:
        """Whether a request may name it now."""
        return name == self.base_name or name in self._aliases

    def available(self, caller: Caller = OPERATOR) -> list[str]:
        """Ids in the adapters folder that the caller may load."""
        return self._store.available(caller)

    def lease(self, model: str, caller: Caller) -> Lease:
        """Resolve the name in a request. Raises RequestError, status 404, when nothing is served to the caller as it.

        What answers is a version that the caller may see, also where others are answered by one that is tried.
        """
        if model == self.base_name:
            return Lease(None, name=f"base-{self._engine.description.identity.digest[:12]}")
        alias = self.seen(model, caller)
        if alias is None:
            raise model_missing(model)
        return alias.lease()

    def seen(self, name: str, caller: Caller) -> Alias | None:
        """The name as the caller sees it; None: it stands for nothing, or not for the caller."""
        alias = self._names.found(name, caller)
        return alias.seen_by(caller) if alias else None

    async def load(
        self, name: str, reference: str, *, move: bool = False, caller: Caller = OPERATOR
    ) -> Alias | Waiting:
        """Serve the adapter with an id or path inside the adapters folder under name; see load_folder."""
        check_name(name, self.base_name)
        async with self.measures.count_refusals():
            folder = await asyncio.to_thread(self._store.find, reference, caller)
        return await self.load_folder(name, folder, move=move, caller=caller)

    async def load_folder(
        self, name: str, folder: Path, *, move: bool = False, caller: Caller = OPERATOR
    ) -> Alias | Waiting:
        """Verify, attach and probe the adapter in folder, and let name stand for it.

        While the engine is away the adapter is verified, and waits for the rest. The folder is one that the operator of
        the server named, or that the caller sees. move: a name that stands for another adapter is moved to this one;
        without, and where the caller does not see that adapter, it is a conflict. Each refusal leaves what is served as
        it was.
        """
        check_name(name, self.base_name)
        async with self._changing, self.measures.count_refusals():
            if self._names.is_hidden(name, caller):
                # else whoever may load could change the answers of those who do see it
                raise name_taken(name, "Choose another name.")
            if name in {*self._aliases, *self._waiting} and not move:
                raise name_taken(name, "Unload it first, or move it: `finetune serve load` does.")
            if self._away:
                return await self._wait(name, folder, caller)
            return await self._point(name, folder, caller=caller)

    async def _point(
        self, name: str, folder: Path, adapter_id: str | None = None, *, caller: Caller = OPERATOR
    ) -> Alias:
        version = await self._version(name, folder, adapter_id, caller=caller)
        # only now: the name may have been unloaded meanwhile
        alias = self._aliases.get(name)
        if alias is None:
            alias = self._aliases[name] = Alias(name, version)
        elif alias.current is version:
            return alias
        else:
            dropped, alias.previous, alias.current = alias.previous, alias.current, version
            if alias.trial and alias.trial.version is version:
                alias.trial = None
            self.measures.moves.labels("move").inc()
            self._retire(dropped)
        self._unserved.pop(name, None)
        self._names.note(alias)
        return alias

    async def _wait(self, name: str, folder: Path, caller: Caller) -> Alias | Waiting:
        manifest = await self._check(name, folder, caller)
        alias = self._aliases.get(name)
        if alias and alias.current.adapter_id == manifest.adapter_id:
            self._waiting.pop(name, None)
            self._names.save()
            return alias
        waiting = self._waiting[name] = Waiting(name, manifest.adapter_id, folder, alias, manifest.visibility)
        self._names.save()
        return waiting

    async def rollback(self, name: str, caller: Caller = OPERATOR) -> Alias:
        """Let name stand for what it stood for before; doing it twice comes back. A move that waits is given up.

        Raises AdapterConflictError when it stood for nothing else that the caller may see, AdapterError when that was
        withdrawn since.
        """
        async with self._changing:
            alias = self._names.named(name, caller)
            waiting = self._waiting.get(name)
            if waiting and waiting.is_seen_by(caller):
                del self._waiting[name]
                self._names.save()
                return alias
            before = alias.seen_by(caller).previous
            if before is None:
                raise AdapterConflictError(
                    f"{name!r} has stood for nothing else since it was loaded.", "Load another adapter under it."
                )
            await asyncio.to_thread(self._store.check_not_withdrawn, before.manifest)
            # only now: the name may have been unloaded meanwhile
            alias = self._names.named(name, caller)
            alias.current, alias.previous = before, alias.current
            self.measures.moves.labels("rollback").inc()
            self._names.note(alias)
            return alias

    async def try_out(self, name: str, reference: str, *, share: float | None, caller: Caller = OPERATOR) -> Alias:
        """Give the adapter, an id or path as in load, a share of name's requests; None: copies of all, unanswered.

        It takes the place of what was tried before. A restart ends it, end_trial does at once.
        """
        self._names.named(name, caller)
        folder = await asyncio.to_thread(self._store.find, reference, caller)
        async with self._changing:
            version = await self._version(name, folder, caller=caller)
            # only now: the name may have been unloaded meanwhile
            alias = self._names.named(name, caller)
            if version is alias.current:
                raise AdapterConflictError(f"{name!r} stands for {version.adapter_id} already.", "Try another adapter.")
            before, alias.trial = alias.trial, Trial(version, share)
            self._retire(before.version if before else None)
            return alias

    async def end_trial(self, name: str, caller: Caller = OPERATOR) -> Alias:
        """Give all of name's requests to what it stands for. Raises AdapterConflictError when nothing is tried."""
        async with self._changing:
            alias = self._names.named(name, caller)
            before = alias.seen_by(caller).trial
            if before is None:
                raise AdapterConflictError(f"Nothing is tried under {name!r}.", "GET /v1/adapters shows what is.")
            alias.trial = None
            self._retire(before.version)
            return alias

    def history(self, name: str, caller: Caller = OPERATOR) -> tuple[Move, ...]:
        """What name has stood for that the caller may see, the newest last. Raises AdapterMissingError."""
        return tuple(self._names.named(name, caller).seen_by(caller).history)

    async def unload(self, name: str, caller: Caller = OPERATOR) -> None:
        """Stop serving name now; the weights go when the requests that came before have ended."""
        if self._away:
            # an adapter is not taken off while it comes back
            async with self._changing:
                pass
        if self._names.is_hidden(name, caller):
            raise alias_missing(name)
        waited = self._waiting.pop(name, None)
        if self._unserved.pop(name, None) or (waited and not waited.previous):
            self._names.save()
            return
        alias = self._names.named(name, caller)
        del self._aliases[name]
        self._names.save()
        unused = [version for version in alias.versions() if not self._names.is_used(version)]
        await asyncio.gather(*(self._versions.retire(version) for version in unused))

    async def leave(self) -> None:
        """Load nothing from now on; the load that runs has ended when this returns."""
        async with self._changing:
            self._away = True

    async def stay(self) -> list[str]:
        """Load again, and first what waits: the engine has everything still. Returns as come_back does."""
        async with self._changing:
            return await self._serve_waiting()

    async def come_back(self) -> list[str]:
        """Give an engine without adapters all that is held; what went wrong with each name that is not served now.

        Such names stay in the state for the next start, as those that restore cannot serve.
        """
        async with self._changing:
            lost = {}
            for version in self._versions.resident:
                try:
                    await self._versions.attach_again(version)
                except PlatformError as error:
                    lost[version.slot] = error.message
            return self._without(lost) + await self._serve_waiting()

    async def distrust(self) -> list[str]:
        """Serve no more what the policy takes no more; what went wrong with each name that is not served now.

        Requests that run may end, as when a name is unloaded. Raises AdapterUntrustedError, and lets all be as it is,
        where the policy cannot be read.
        """
        async with self._changing:
            # what comes back is checked then
            lost = {} if self._away else await self._versions.untrusted()
            problems = self._without(lost)
            for version in self._versions.resident:
                if version.slot in lost:
                    self._later(self._versions.retire(version))
            if lost:
                self._names.save()
            return problems

    def _without(self, lost: Mapping[str, str]) -> list[str]:
        """Let names go that stand for a version in one of these slots, which map to why; returns that by name."""
        problems = []
        for alias in tuple(self._aliases.values()):
            if alias.previous and alias.previous.slot in lost:
                alias.previous = None
            if alias.trial and alias.trial.version.slot in lost:
                alias.trial = None
            if alias.current.slot in lost:
                problems.append(f"{alias.name}: {lost[alias.current.slot]}")
                self._unserved[alias.name] = desired(alias)
                del self._aliases[alias.name]
        return problems

    async def _serve_waiting(self) -> list[str]:
        problems = []
        self._away = False
        for name, waiting in tuple(self._waiting.items()):
            try:
                await self._point(name, waiting.folder, waiting.adapter_id)
            except PlatformError as error:
                problems.append(f"{name}: {error.message}")
            del self._waiting[name]
        self._names.save()
        return problems

    async def drained(self) -> None:
        """Wait until what was replaced before is gone; an event loop that ends before would leave it half gone."""
        await asyncio.gather(*self._draining)

    async def restore(self) -> list[str]:
        """Serve what was served when the state was last written; what went wrong with each name that is not.

        Names that cannot be served stay in the state for the next start. Raises AdapterError for a damaged file.
        """
        problems = []
        for name, wanted in self._names.read().items():
            try:
                await self._restore(name, wanted)
            except PlatformError as error:
                problems.append(f"{name}: {error.message}")
        await self._versions.sweep()
        return problems

    async def _restore(self, name: str, wanted: DesiredAlias) -> None:
        async with self._changing, self.measures.count_refusals():
            current = await self._version(name, Path(wanted.current.folder), wanted.current.adapter_id)
            alias = Alias(name, current, history=restored_history(wanted))
            self._aliases[name] = alias
            del self._unserved[name]
            if wanted.previous:
                try:
                    before = wanted.previous
                    alias.previous = await self._version(name, Path(before.folder), before.adapter_id)
                except PlatformError:
                    # there is nothing to go back to, which rollback says
                    alias.previous = None

    async def _check(self, name: str, folder: Path, caller: Caller) -> AdapterManifest:
        """The manifest of a sound adapter that may be served as name.

        Raises AdapterMissingError for one of groups that the caller lacks, AdapterConflictError for one that the name
        is not for.
        """
        manifest = await self._versions.check(folder)
        if not caller.holds(manifest.visibility):
            raise adapter_missing(folder.name)
        self.rules.check_adapter(name, manifest.visibility, caller)
        return manifest

    async def _version(
        self, name: str, folder: Path, adapter_id: str | None = None, *, caller: Caller = OPERATOR
    ) -> Version:
        """The adapter in folder as a resident version, for name. adapter_id: what must be there, None for any."""
        moved = AdapterConflictError(f"{adapter_id} is no longer where it was loaded from.", "Load it again.")
        if adapter_id and not folder.is_dir():
            raise moved
        manifest = await self._check(name, folder, caller)
        if adapter_id not in (None, manifest.adapter_id):
            raise moved
        found = self._versions.find(manifest)
        # the folder may be signed anew since
        if found and found.slot not in await self._versions.untrusted():
            return found
        await self._make_room()
        return await self._versions.load(folder, manifest)

    async def _make_room(self) -> None:
        """Let the oldest go that is only kept for going back. Raises AdapterConflictError when all are needed."""
        resident = self._versions.resident
        if len(resident) < self._max_adapters:
            return
        current = {id(one) for alias in self._aliases.values() for one in alias.needed()}
        spare = next((one for one in resident if id(one) not in current and not one.num_active), None)
        if spare is None:
            raise AdapterConflictError(
                f"{self._max_adapters} adapters are served, which is the limit.", "Unload one first."
            )
        for alias in self._aliases.values():
            if alias.previous is spare:
                alias.previous = None
        self._names.save()
        self.measures.evictions.inc()
        await self._versions.retire(spare)

    def _retire(self, version: Version | None) -> None:
        if version and not self._names.is_used(version):
            self._later(self._versions.retire(version))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)
