"""Which digest the files of a base had when they were last read whole, so that a start need not read them for it.

The memory decides nothing but which 4-bit copy to look at: what is loaded from the base itself is digested anew.
"""

from contextlib import suppress
from pathlib import Path
from typing import Literal

from finetune.contracts.adapter import BaseIdentity
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.io import digest_text, read_model, write_json
from finetune.model.identity import CONFIG_NAME


class FileStamp(Contract):
    """How a file looked without reading it; times in nanoseconds since 1970."""

    name: str
    bytes: int
    modified_ns: int
    changed_ns: int


class KnownBase(Contract):
    """The identity that the files of a folder had when they looked so."""

    schema_version: Literal[1] = 1
    folder: str
    files: tuple[FileStamp, ...]
    identity: BaseIdentity


def remembered_identity(root: Path, base: Path) -> BaseIdentity | None:
    """The identity that the base in a folder had when its files looked as they do; None where that is not known.

    root is the folder of this memory.
    """
    try:
        known = read_model(_record(root, base), KnownBase, error=InputError, hint="")
        if known.folder == str(base.resolve()) and known.files == _stamps(base):
            return known.identity
    except (InputError, OSError):
        pass
    return None


def remember_identity(root: Path, base: Path, identity: BaseIdentity) -> None:
    """Keep the identity of the base in a folder for the next start; without room for it, the base is read again."""
    known = KnownBase(folder=str(base.resolve()), files=_stamps(base), identity=identity)
    with suppress(MachineError):
        write_json(_record(root, base), known)


def _record(root: Path, base: Path) -> Path:
    return root / f"{digest_text(str(base.resolve()))[:16]}.json"


def _stamps(base: Path) -> tuple[FileStamp, ...]:
    """How the files look that a base's digest covers."""
    stamps = []
    for path in [base / CONFIG_NAME, *sorted(base.glob("*.safetensors"))]:
        found = path.stat()
        stamps.append(
            FileStamp(name=path.name, bytes=found.st_size, modified_ns=found.st_mtime_ns, changed_ns=found.st_ctime_ns)
        )
    return tuple(stamps)
