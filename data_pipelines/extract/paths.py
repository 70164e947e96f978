"""Where imports may lie: beside the importer, under a folder above it, under the usual roots of sources."""

import posixpath
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath


def relative(target: str, importer: str) -> str | None:
    """target seen from the folder of importer, as a path from the top; None when it leaves the repository."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(importer), target))
    return None if path.startswith("..") else path


def folders_above(importer: str) -> list[str]:
    """The folders that hold importer, the nearest first, "" last."""
    return ["" if str(folder) == "." else str(folder) for folder in PurePosixPath(importer).parents]


def under(folders: Iterable[str], names: Sequence[str]) -> list[str]:
    """Each name under each folder, all of the first folder first, each path once."""
    return list(dict.fromkeys(posixpath.join(folder, name) for folder in folders for name in names))


def source_and_main(importer: str) -> list[str]:
    """The folders above importer; for one in a tree of tests those of the main tree too ("src/test" and "src/main")."""
    folders = folders_above(importer)
    return folders + [main for folder in folders if (main := _main_of(folder)) != folder]


def dotted(name: str, *, importer: str, suffixes: Sequence[str]) -> list[str]:
    """a.b.C as a/b/C with each suffix under the folders above importer; also a/b, for a member of a class or file."""
    parts = name.split(".")
    stems = ["/".join(parts[: len(parts) - cut]) for cut in range(2) if len(parts) > cut + 1]
    return under(source_and_main(importer), [stem + suffix for stem in stems for suffix in suffixes])


def _main_of(folder: str) -> str:
    parts = folder.split("/")
    return "/".join("main" if part == "test" else part.replace("Test", "Main") for part in parts)
