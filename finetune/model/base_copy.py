"""Load a base through its 4-bit copy: from the copy where it is whole, else from the base, which is copied then."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.contracts.adapter import BaseIdentity, Quantization
from finetune.contracts.errors import BaseModelError
from finetune.model.copy_store import HINT, CopySettings, CopyStore
from finetune.model.identity import read_identity
from finetune.model.known_base import remember_identity, remembered_identity
from finetune.terminal.output import note

KNOWN_FOLDER = "known"
# a base below this is read and quantised in seconds
LEAST_BYTES = 4 * 10**9


@dataclass(frozen=True)
class BaseCopies:
    """Where copies lie, and whether one that is missing is written."""

    root: Path
    write: bool = True


@dataclass(frozen=True)
class Loader:
    """How to read weights: from the base in a folder, or, with copied, from a copy of it in that form."""

    read: Callable[..., Any]

    def base(self, folder: Path) -> Any:
        """Read and quantise the base in folder."""
        return self.read(folder, copied=False)

    def copy(self, folder: Path, base: Path) -> Any:
        """Read a copy of base; the model calls itself by the base's folder."""
        model = self.read(folder, copied=True)
        model.name_or_path = model.config._name_or_path = str(base)
        return model


def load_through_copy(
    base: Path, loader: Loader, *, settings: CopySettings, copies: BaseCopies | None, quantization: Quantization
) -> tuple[BaseIdentity, Any]:
    """The identity and the model of the base in a folder, from its copy where there is a whole one.

    Where there is none it is written, unless the base is small or stays in 16 bit; copies None means none at all. A
    copy that is damaged is told of by name, and replaced. What keeps one from being written is a note, never an error.
    """
    if copies is None or quantization is Quantization.NONE or _weight_bytes(base) < LEAST_BYTES:
        return read_identity(base), loader.base(base)
    store = CopyStore(copies.root, settings)
    known = remembered_identity(store.root / KNOWN_FOLDER, base)
    if known is not None and (model := _from_copy(store, known, loader, base=base)) is not None:
        return known, model
    identity = read_identity(base)
    if copies.write:
        remember_identity(store.root / KNOWN_FOLDER, base, identity)
    # the base may be known by another path
    if known is None and (model := _from_copy(store, identity, loader, base=base)) is not None:
        return identity, model
    model = loader.base(base)
    if copies.write:
        store.write(identity, model)
    return identity, model


def _from_copy(store: "CopyStore", identity: BaseIdentity, loader: Loader, *, base: Path) -> Any:
    folder = store.whole(identity)
    if folder is None:
        return None
    try:
        return loader.copy(folder, base)
    except BaseModelError as error:
        note(f"{error.message} {HINT}")
        return None


def _weight_bytes(base: Path) -> int:
    return sum(path.stat().st_size for path in base.glob("*.safetensors"))
