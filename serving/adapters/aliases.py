"""What a name that clients use stands for, and which callers it exists for."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from serving.access.scopes import Caller
from serving.adapters.desired import DesiredAlias, DesiredMove, DesiredVersion
from serving.adapters.trials import Trial
from serving.adapters.versions import Lease, Version


@dataclass(frozen=True, slots=True)
class Move:
    """A name came to stand for an adapter of these groups; at is in seconds since 1970."""

    adapter_id: str
    at: int
    visibility: tuple[str, ...]


@dataclass
class Alias:
    """A name that clients use. previous is what it stood for before, kept for going back; None: nothing is.

    trial is a version that gets a share of its requests, or copies of them; None: none does.
    """

    name: str
    current: Version
    previous: Version | None = None
    trial: Trial | None = None
    history: list[Move] = field(default_factory=list)

    def needed(self) -> Iterator[Version]:
        """Those that answer."""
        yield self.current
        if self.trial:
            yield self.trial.version

    def versions(self) -> Iterator[Version]:
        """Those that must stay while the alias does."""
        yield from self.needed()
        if self.previous:
            yield self.previous

    def is_seen_by(self, caller: Caller) -> bool:
        """Whether the name exists for the caller: it would be answered by what the caller may see."""
        return caller.sees(self.name) and caller.holds(self.current.manifest.visibility)

    def seen_by(self, caller: Caller) -> "Alias":
        """What there is of it for a caller for whom it exists: without versions of groups that the caller lacks."""
        previous, trial = self.previous, self.trial
        return replace(
            self,
            previous=previous if previous and caller.holds(previous.manifest.visibility) else None,
            trial=trial if trial and caller.holds(trial.version.manifest.visibility) else None,
            history=[move for move in self.history if caller.holds(move.visibility)],
        )

    def lease(self) -> Lease:
        """The right to use what answers the next request."""
        return (self.trial.pick(self.current) if self.trial else self.current).lease()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A name that is to stand for an adapter of these groups when the engine is back.

    previous: what it stands for until then.
    """

    name: str
    adapter_id: str
    folder: Path
    previous: Alias | None
    visibility: tuple[str, ...]

    def is_seen_by(self, caller: Caller) -> bool:
        """Whether the caller sees the name, and may see what is to answer."""
        return caller.sees(self.name) and caller.holds(self.visibility)

    def seen_by(self, caller: Caller) -> "Waiting":
        """What there is of it for such a caller."""
        before = self.previous
        return replace(self, previous=before.seen_by(caller) if before and before.is_seen_by(caller) else None)


def desired_later(waiting: Waiting) -> DesiredAlias:
    """As it will be: a restart meanwhile serves that."""
    current = DesiredVersion(
        adapter_id=waiting.adapter_id, folder=str(waiting.folder.resolve()), visibility=waiting.visibility
    )
    if waiting.previous is None:
        return DesiredAlias(current=current)
    before = desired(waiting.previous)
    return DesiredAlias(current=current, previous=before.current, history=before.history)


def _told(version: Version) -> DesiredVersion:
    return DesiredVersion(
        adapter_id=version.adapter_id, folder=str(version.folder.resolve()), visibility=version.manifest.visibility
    )


def restored_history(alias: DesiredAlias) -> list[Move]:
    """What the name stood for before the restart."""
    return [Move(move.adapter_id, move.at, move.visibility) for move in alias.history]


def desired(alias: Alias) -> DesiredAlias:
    """As a restart is to find it; what is tried ends with the server."""
    return DesiredAlias(
        current=_told(alias.current),
        previous=_told(alias.previous) if alias.previous else None,
        history=tuple(
            DesiredMove(adapter_id=move.adapter_id, at=move.at, visibility=move.visibility) for move in alias.history
        ),
    )
