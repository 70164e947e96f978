"""Trees copied so that a file which several of them share is written once and linked to from then on."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path


class Copies:
    """Copies folders; a file that was copied before, as the same file on disk, becomes a hard link to that copy.

    Where links cannot be made (across file systems), it is copied again.
    """

    def __init__(self) -> None:
        self._copied: dict[tuple[int, int], Path] = {}

    def copy_tree(self, source: Path, target: Path, *, leave_out: Collection[str] = ()) -> None:
        """Copy source to target, which is not there yet, but for files by their paths in it; symbolic links stay links.

        What was copied must not change later: it is what later copies are linked to.
        """

        def ignored(folder: str, names: list[str]) -> list[str]:
            return [name for name in names if Path(folder, name).relative_to(source).as_posix() in leave_out]

        shutil.copytree(source, target, copy_function=self._copy, symlinks=True, ignore=ignored)

    def copy_file(self, source: Path, target: Path) -> None:
        """Copy one file, its parents made where they are missing."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._copy(str(source), str(target))

    def _copy(self, source: str, target: str) -> None:
        status = os.stat(source)
        key = (status.st_dev, status.st_ino)
        try:
            os.link(self._copied[key], target)
        except (KeyError, OSError):
            shutil.copy2(source, target, follow_symlinks=False)
            self._copied[key] = Path(target)
