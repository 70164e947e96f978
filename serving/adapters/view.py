"""What of the adapters exists for one caller: the only way from a route to a name, a version or a folder."""

import asyncio
from dataclasses import dataclass
from typing import TypeVar

from serving.access.scopes import Caller
from serving.adapters.aliases import Alias, Move, Waiting
from serving.adapters.names import alias_missing
from serving.adapters.registry import AdapterRegistry
from serving.adapters.trials import Trial
from serving.adapters.versions import Lease, Version
from serving.errors import ScopeError

AliasT = TypeVar("AliasT", Alias, Waiting, Alias | Waiting)


@dataclass(frozen=True, slots=True)
class View:
    """A registry as caller sees it. What the caller does not see answers as what does not exist.

    A name exists for whose patterns it matches and who holds all groups of what it stands for now; a version or a
    folder, whose patterns its id matches and who holds its groups. What else stands behind a name that is seen, such
    as the version before, is seen with its groups.
    """

    registry: AdapterRegistry
    caller: Caller

    @property
    def base_name(self) -> str:
        """The name of the base, which everybody sees."""
        return self.registry.base_name

    @property
    def served(self) -> tuple[Alias, ...]:
        """The names, in the order of their first load."""
        return tuple(alias.seen_by(self.caller) for alias in self.registry.served if alias.is_seen_by(self.caller))

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """The names that will stand for something else when the engine is back."""
        return tuple(one.seen_by(self.caller) for one in self.registry.waiting if one.is_seen_by(self.caller))

    @property
    def versions(self) -> tuple[Version, ...]:
        """Those in memory."""
        behind = {version.slot for alias in self.served for version in alias.versions()}
        return tuple(
            one
            for one in self.registry.versions
            if (one.slot in behind or self.caller.sees(one.adapter_id)) and self.caller.holds(one.manifest.visibility)
        )

    async def available(self) -> list[str]:
        """Ids in the adapters folder."""
        return await asyncio.to_thread(self.registry.available, self.caller)

    def lease(self, model: str) -> Lease:
        """See AdapterRegistry."""
        self._note(model)
        return self.registry.lease(model, self.caller)

    def trial(self, model: str) -> Trial | None:
        """What is tried under the name in a request; None: nothing, or nothing that the caller sees."""
        alias = self.registry.seen(model, self.caller)
        return alias.trial if alias else None

    def current(self, name: str) -> Version:
        """What the name stands for. Raises AdapterMissingError."""
        self._note(name)
        alias = self.registry.seen(name, self.caller)
        if alias is None:
            raise alias_missing(name)
        self.caller.record.answered = alias.current.adapter_id
        return alias.current

    def history(self, name: str) -> tuple[Move, ...]:
        """See AdapterRegistry."""
        self._note(name)
        return self.registry.history(name, self.caller)

    async def load(self, name: str, reference: str, *, move: bool = False) -> Alias | Waiting:
        """See AdapterRegistry. Raises ScopeError for a name that is not for the caller, there or not."""
        self._note(name, reference)
        if not self.caller.sees(name):
            patterns = ", ".join(self.caller.adapters) or "none"
            raise ScopeError(f"This key serves under names of these patterns: {patterns}.", "Choose such a name.")
        self.registry.rules.check_caller(name, self.caller)
        found = await self.registry.load(name, reference, move=move, caller=self.caller)
        return self._changed(found).seen_by(self.caller)

    async def rollback(self, name: str) -> Alias:
        """See AdapterRegistry."""
        self._note(name)
        return self._changed(await self.registry.rollback(name, self.caller)).seen_by(self.caller)

    async def try_out(self, name: str, reference: str, *, share: float | None) -> Alias:
        """See AdapterRegistry."""
        self._note(name, reference)
        alias = await self.registry.try_out(name, reference, share=share, caller=self.caller)
        return alias.seen_by(self.caller)

    async def end_trial(self, name: str) -> Alias:
        """See AdapterRegistry."""
        self._note(name)
        return self._changed(await self.registry.end_trial(name, self.caller)).seen_by(self.caller)

    async def unload(self, name: str) -> None:
        """See AdapterRegistry."""
        self._note(name)
        await self.registry.unload(name, self.caller)

    def _note(self, name: str, reference: str = "") -> None:
        """For the log of who asked what: the name that is asked for or changed, and what is named for it."""
        self.caller.record.model, self.caller.record.adapter = name, reference

    def _changed(self, found: AliasT) -> AliasT:
        """For the log, too: what the name stands for since."""
        self.caller.record.answered = (found if isinstance(found, Waiting) else found.current).adapter_id
        return found
