"""The groups that adapters in a folder say they were learned from, read again only when a manifest was replaced."""

from pathlib import Path

from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME
from finetune.contracts.adapter_files import read_manifest
from finetune.contracts.errors import AdapterError

Stamp = tuple[int, int, int, int]


class GroupsOfFolders:
    """Reading and checking a manifest takes a millisecond, and a listing asks for each of them."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Stamp, tuple[str, ...]]] = {}

    def of(self, folder: Path) -> tuple[str, ...]:
        """The groups of the adapter in folder, none where its manifest cannot be read or states none."""
        try:
            status = (folder / ADAPTER_MANIFEST_NAME).stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
            known = self._known.get(folder)
            if known is None or known[0] != stamp:
                known = self._known[folder] = (stamp, _read(folder))
        except OSError:
            return ()
        return known[1]


def _read(folder: Path) -> tuple[str, ...]:
    try:
        return read_manifest(folder).visibility
    except AdapterError:
        return ()
