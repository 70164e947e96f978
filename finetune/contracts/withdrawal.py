"""The mark of an adapter that was withdrawn: whoever would use the adapter looks for it first.

Marks lie in a hidden folder beside the adapters, one a weights digest, so that a copy of the adapter under another name
or in another folder has the same mark, and a server that knows nothing but the adapters folder sees it.
"""

import time
from pathlib import Path
from typing import Literal

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import read_model, write_json

MARKS_NAME = ".withdrawn"
HINT = "There is no way back but to train again without it; `finetune adapter history` shows who withdrew it."


class WithdrawnMark(Contract):
    """Who withdrew which weights, why and when (seconds since 1970); entry is the digest of that line of the record."""

    schema_version: Literal[1] = 1
    adapter_id: str
    weights: str
    who: str
    reason: str
    at: int
    entry: str

    def __str__(self) -> str:
        return f"{day_of(self.at)} by {self.who}: {self.reason}"


def day_of(seconds: int) -> str:
    """A time as the day that it is in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def read_mark(adapters: Path, weights: str) -> WithdrawnMark | None:
    """The mark of weights, a digest, in an adapters folder; None without one. Raises AdapterError for a damaged one."""
    path = _path(adapters, weights)
    return read_model(path, WithdrawnMark, error=AdapterError, hint=HINT) if path.exists() else None


def write_mark(adapters: Path, mark: WithdrawnMark) -> None:
    """Put a mark there, whole or not at all. Raises MachineError when the disk refuses."""
    write_json(_path(adapters, mark.weights), mark)


def check_not_withdrawn(adapters: Path, manifest: AdapterManifest) -> None:
    """Raise AdapterError where the adapter's weights have a mark, also one that cannot be read."""
    mark = read_mark(adapters, manifest.digests.weights)
    if mark is not None:
        raise AdapterError(f"{manifest.adapter_id} was withdrawn on {mark}.", HINT)


def _path(adapters: Path, weights: str) -> Path:
    return adapters / MARKS_NAME / f"{weights}.json"
