"""Where imports may lie: beside the importer, under a folder above it, under the usual roots of sources."""

import posixpath
from collections.abc import Iterable, Sequence
from functools import lru_cache


def relative(target: str, importer: str) -> str | None:
    """target seen from the folder of importer, as a path from the top; None when it leaves the repository."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(importer), target))
    return None if path.startswith("..") else path


def folders_above(importer: str) -> tuple[str, ...]:
    """The folders that hold importer, the nearest first, "" last."""
    return _and_above(importer.rpartition("/")[0])


def under(folders: Iterable[str], names: Sequence[str]) -> list[str]:
    """Each name under each folder, all of the first folder first, each path once."""
    starts = [f"{folder}/" if folder else "" for folder in folders]
    return list(dict.fromkeys([start + name if name else start.rstrip("/") for start in starts for name in names]))


def source_and_main(importer: str) -> tuple[str, ...]:
    """The folders above importer; for one in a tree of tests those of the main tree too ("src/test" and "src/main")."""
    return _with_main(importer.rpartition("/")[0])


# files of a folder have many imports each: what lies above it is found once
@lru_cache(maxsize=4096)
def _and_above(folder: str) -> tuple[str, ...]:
    found = [folder]
    while folder:
        folder = folder.rpartition("/")[0]
        found.append(folder)
    return tuple(found)


@lru_cache(maxsize=4096)
def _with_main(folder: str) -> tuple[str, ...]:
    folders = _and_above(folder)
    return folders + tuple(main for above in folders if (main := _main_of(above)) != above)


def dotted(name: str, *, importer: str, suffixes: Sequence[str]) -> list[str]:
    """a.b.C as a/b/C with each suffix under the folders above importer; also a/b, for a member of a class or file."""
    parts = name.split(".")
    stems = ["/".join(parts[: len(parts) - cut]) for cut in range(2) if len(parts) > cut + 1]
    return under(source_and_main(importer), [stem + suffix for stem in stems for suffix in suffixes])


def _main_of(folder: str) -> str:
    parts = folder.split("/")
    return "/".join("main" if part == "test" else part.replace("Test", "Main") for part in parts)
