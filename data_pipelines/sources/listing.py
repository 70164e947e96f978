"""What `sources` stand for: single repositories, globs and folders of mirrors become one source per repository."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from data_pipelines.config import SourceSection
from finetune.contracts.errors import RepositoryError

MAX_FOLDERS = 100_000
GLOB_SIGNS = frozenset("*?[")
ANY_DEPTH = "**"
EVERYTHING: tuple[str, ...] = (ANY_DEPTH,)


def expand_sources(sections: Sequence[SourceSection]) -> tuple[SourceSection, ...]:
    """One section per repository, each with its path and a name of its own; expanding the result changes nothing.

    A glob, a folder in mirrors, and a path that is a plain folder stand for the repositories they hold, sorted by path
    and named by it: "group/api". A repository that a section of its own names is left out of them, so its settings
    win wherever it stands; of several globs that find it the first wins. A path that leads nowhere stays, and
    open_repository says what is wrong with it. A second "api" becomes "api-2".

    Raises RepositoryError for a glob or a folder that holds no repository, and for one with over MAX_FOLDERS folders.
    """
    single = [_is_single(section) for section in sections]
    taken = {section.path.resolve() for section, alone in zip(sections, single, strict=True) if alone}
    expanded: list[SourceSection] = []
    for section, alone in zip(sections, single, strict=True):
        if alone:
            expanded.append(section.model_copy(update={"name": section.name or _name(section.path.resolve())}))
            continue
        for path, name in _found(section):
            if path.resolve() not in taken:
                taken.add(path.resolve())
                full_name = f"{section.name}/{name}" if section.name else name
                expanded.append(section.model_copy(update={"path": path, "name": full_name, "mirrors": None}))
    return _with_unique_names(expanded)


def is_repository(folder: Path) -> bool:
    """Whether a folder looks like a repository, whole or not: a damaged one is reported, not passed over."""
    if folder.name.endswith(".git") and folder.name != ".git":
        return folder.is_dir()
    return (folder / ".git").exists() or ((folder / "HEAD").is_file() and (folder / "objects").is_dir())


def _is_single(section: SourceSection) -> bool:
    if section.mirrors is not None:
        return False
    if section.path.is_dir():
        # a plain folder stands for what it holds; without any it is for open_repository to refuse
        return is_repository(section.path) or not any(_Walk(section.path).find(EVERYTHING))
    return not GLOB_SIGNS.intersection(str(section.path))


def _found(section: SourceSection) -> list[tuple[Path, str]]:
    if section.mirrors is not None:
        base, pattern = section.mirrors, EVERYTHING
        if not base.is_dir():
            raise RepositoryError(f"The folder of mirrors {base} does not exist.", "Correct `mirrors` of that source.")
    else:
        base, pattern = _parts(section.path)
    try:
        paths = sorted(set(_Walk(base).find(pattern)))
    except OSError as cause:
        raise RepositoryError(f"{cause.filename} cannot be read: {cause.strerror}.", "Correct `sources`.") from cause
    if not paths and section.mirrors is not None:
        raise RepositoryError(f"The folder of mirrors {base} holds no repository.", f"See what it holds: ls {base}")
    if not paths:
        raise RepositoryError(f"No repository matches {section.path}.", f"See what there is: ls {base}")
    return [(path, _name(path, below=base)) for path in paths]


def _parts(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that a glob starts at, and its segments below."""
    if path.is_dir():
        return path, EVERYTHING
    parts = path.parts
    first = next(index for index, part in enumerate(parts) if GLOB_SIGNS.intersection(part))
    return Path(*parts[:first]), parts[first:]


def _name(path: Path, *, below: Path | None = None) -> str:
    name = path.relative_to(below).as_posix() if below and path != below else path.name
    name = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return name.removesuffix("/.git").removesuffix(".git") or "repository"


def _with_unique_names(sections: Sequence[SourceSection]) -> tuple[SourceSection, ...]:
    seen: set[str] = set()
    named = []
    for section in sections:
        name, number = section.name, 1
        while name in seen:
            number += 1
            name = f"{section.name}-{number}"
        seen.add(name)
        named.append(section.model_copy(update={"name": name}))
    return tuple(named)


class _Walk:
    """A walk below one folder that follows no links for "**" and does not look into a repository it has found."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._num_folders = 0

    def find(self, pattern: tuple[str, ...]) -> Iterator[Path]:
        """Repositories whose path below base matches pattern, a segment each; "**" is any number of folders."""
        yield from self._find(self._base, pattern)

    def _find(self, folder: Path, pattern: tuple[str, ...]) -> Iterator[Path]:
        if not pattern:
            if is_repository(folder):
                yield folder
        elif pattern[0] == ANY_DEPTH:
            for found in self._below(folder):
                if _matches(found.relative_to(folder).parts, pattern):
                    yield found
        else:
            for child in self._folders(folder):
                # as in a shell, a star finds no hidden folder
                if fnmatchcase(child.name, pattern[0]) and (child.name[0] != "." or pattern[0][0] == "."):
                    yield from self._find(child, pattern[1:])

    def _below(self, top: Path) -> Iterator[Path]:
        pending = [top]
        while pending:
            folder = pending.pop()
            if is_repository(folder):
                yield folder
                continue
            try:
                pending += [child for child in reversed(self._folders(folder)) if not child.is_symlink()]
            except OSError:
                # there may be repositories in it: as a source it is refused with a reason, and not passed over
                yield folder

    def _folders(self, folder: Path) -> list[Path]:
        self._num_folders += 1
        if self._num_folders > MAX_FOLDERS:
            raise RepositoryError(
                f"{self._base} holds more than {MAX_FOLDERS:,} folders.", "Name a folder nearer to the repositories."
            )
        return sorted(child for child in folder.iterdir() if child.is_dir())


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern or not parts:
        return not parts and all(part == ANY_DEPTH for part in pattern)
    if pattern[0] == ANY_DEPTH:
        return _matches(parts, pattern[1:]) or _matches(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
