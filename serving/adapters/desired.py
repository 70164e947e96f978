"""What the server is to serve, written at each change, so that a restart serves the same."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import read_model, write_json

HINT = "Remove that file to begin with no adapter; `finetune serve load` serves them again."


class DesiredVersion(Contract):
    """An adapter and the folder on this machine that it is loaded from: its copy, see copies.py.

    visibility are the groups of its manifest, none in states from before they were written.
    """

    adapter_id: str
    folder: str
    visibility: tuple[str, ...] = ()


class DesiredMove(Contract):
    """A name came to stand for an adapter; at is in seconds since 1970. visibility as in DesiredVersion."""

    adapter_id: str
    at: int
    visibility: tuple[str, ...] = ()


class DesiredAlias(Contract):
    """What a name stands for, and what it stood for before; None: nothing, or it was let go."""

    current: DesiredVersion
    previous: DesiredVersion | None = None
    history: tuple[DesiredMove, ...] = ()


class DesiredState(Contract):
    """All names that are served."""

    aliases: Mapping[str, DesiredAlias]


class StateFile:
    """Where the state is kept: replaced as a whole, so that a kill leaves the old or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Mapping[str, DesiredAlias]:
        """The state by name, empty when none was written. Raises AdapterError for a file that cannot be read."""
        if not self._path.is_file():
            return {}
        return read_model(self._path, DesiredState, error=AdapterError, hint=HINT).aliases

    def write(self, aliases: Mapping[str, DesiredAlias]) -> None:
        """Replace the state."""
        write_json(self._path, DesiredState(aliases=aliases))


def read_states(folder: Path) -> Iterator[DesiredVersion]:
    """All that the servers of a home are to serve or may go back to. Raises AdapterError as StateFile.read does."""
    for path in folder.glob("*.json"):
        for alias in StateFile(path).read().values():
            yield alias.current
            if alias.previous:
                yield alias.previous
