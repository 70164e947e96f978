"""The names of a registry: what each stands for, for whom it exists, and how a restart is to find them."""

import time
from collections.abc import Mapping

from serving.access.scopes import Caller
from serving.adapters.aliases import Alias, Move, Waiting, desired, desired_later
from serving.adapters.desired import DesiredAlias, StateFile
from serving.adapters.names import alias_missing
from serving.adapters.versions import Version

# Moves of one name that are remembered
MAX_HISTORY = 100
# The groups of a name that stands for nothing; no key can hold this one
NOBODY = ("",)


class NameTable:
    """aliases are served, waiting will be when the engine is back, unserved could not be and wait for the next start.

    state None: a restart begins anew.
    """

    def __init__(self, state: StateFile | None) -> None:
        self.aliases: dict[str, Alias] = {}
        self.waiting: dict[str, Waiting] = {}
        self.unserved: dict[str, DesiredAlias] = {}
        self._state = state

    def found(self, name: str, caller: Caller) -> Alias | None:
        """What is served as name; None: nothing is, or not for the caller."""
        alias = self.aliases.get(name)
        # asked of an absent name too, so that a hidden one takes no longer
        groups = alias.current.manifest.visibility if alias else NOBODY
        return alias if caller.sees(name) and caller.holds(groups) else None

    def named(self, name: str, caller: Caller) -> Alias:
        """What is served as name. Raises AdapterMissingError."""
        alias = self.found(name, caller)
        if alias is None:
            raise alias_missing(name)
        return alias

    def is_hidden(self, name: str, caller: Caller) -> bool:
        """Whether the name is taken, also by what could not be served, and does not exist for the caller."""
        held = self.aliases.get(name) or self.waiting.get(name)
        if held:
            return not held.is_seen_by(caller)
        unserved = self.unserved.get(name)
        return unserved is not None and not (caller.sees(name) and caller.holds(unserved.current.visibility))

    def is_used(self, version: Version) -> bool:
        """Whether a name needs the version, or may go back to it."""
        return any(version is one for alias in self.aliases.values() for one in alias.versions())

    def note(self, alias: Alias) -> None:
        """Keep that the name stands for something else now."""
        move = Move(alias.current.adapter_id, int(time.time()), alias.current.manifest.visibility)
        alias.history = [*alias.history, move][-MAX_HISTORY:]
        self.save()

    def read(self) -> Mapping[str, DesiredAlias]:
        """What was to be served when the state was last written; unserved until it is."""
        self.unserved.update(self._state.read() if self._state else {})
        return dict(self.unserved)

    def save(self) -> None:
        """Write the state."""
        if self._state:
            served = {alias.name: desired(alias) for alias in self.aliases.values()}
            waiting = {one.name: desired_later(one) for one in self.waiting.values()}
            self._state.write({**self.unserved, **served, **waiting})
