"""What a name that clients use stands for, and what a caller is told of a name that stands for nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from serving.adapters.desired import DesiredAlias, DesiredMove, DesiredVersion
from serving.adapters.trials import Trial
from serving.adapters.versions import Version
from serving.errors import AdapterMissingError, RequestError


@dataclass(frozen=True, slots=True)
class Move:
    """A name came to stand for an adapter; at is in seconds since 1970."""

    adapter_id: str
    at: int


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


@dataclass(frozen=True, slots=True)
class Waiting:
    """A name that is to stand for an adapter when the engine is back. previous: what it stands for until then."""

    name: str
    adapter_id: str
    folder: Path
    previous: Alias | None


def model_missing(model: str) -> RequestError:
    """The answer to a request for a model that is not served, or not for the caller."""
    return RequestError(
        f"The model {model!r} is not served here.",
        "GET /v1/models lists what is.",
        param="model",
        code="model_not_found",
        status=404,
    )


def alias_missing(name: str) -> AdapterMissingError:
    """The answer to a change of a name that is not served, or not for the caller."""
    return AdapterMissingError(f"No adapter is served as {name!r}.", "GET /v1/adapters lists those that are.")


def desired_later(waiting: Waiting) -> DesiredAlias:
    """As it will be: a restart meanwhile serves that."""
    current = DesiredVersion(adapter_id=waiting.adapter_id, folder=str(waiting.folder.resolve()))
    if waiting.previous is None:
        return DesiredAlias(current=current)
    before = desired(waiting.previous)
    return DesiredAlias(current=current, previous=before.current, history=before.history)


def _told(version: Version) -> DesiredVersion:
    return DesiredVersion(adapter_id=version.adapter_id, folder=str(version.folder.resolve()))


def desired(alias: Alias) -> DesiredAlias:
    """As a restart is to find it; what is tried ends with the server."""
    return DesiredAlias(
        current=_told(alias.current),
        previous=_told(alias.previous) if alias.previous else None,
        history=tuple(DesiredMove(adapter_id=move.adapter_id, at=move.at) for move in alias.history),
    )
