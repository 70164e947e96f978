"""What a dataset must not hold any more: paths, repositories and authors that were forgotten, for every later build."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from data_pipelines.filters.globs import glob_matches
from data_pipelines.filters.paths import readable_path
from finetune.contracts.errors import DatasetError
from finetune.contracts.io import digest_json, read_model, write_json

FORGOTTEN_NAME = "forgotten.json"


class Forgotten(BaseModel):
    """The list. paths are "repository:glob" as in .gitignore, authors keyed hashes; what is on it never comes back.

    digests are the content digests of states of the dataset that held some of it: who was trained on one has seen it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    repositories: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    def reason(self, repository: str, paths: Sequence[str], author: str) -> str:
        """Why something must be left out, "" when it need not."""
        if repository in self.repositories:
            return "its repository was forgotten"
        if author in self.authors:
            return "its author was forgotten"
        if any(self._holds(repository, path) for path in paths):
            return "its path was forgotten"
        return ""

    def raw_reason(self, repository: str, paths: Sequence[bytes], author: str) -> str:
        """The same for paths as git has them."""
        return self.reason(repository, [path for path in map(readable_path, paths) if path is not None], author)

    def _holds(self, repository: str, path: str) -> bool:
        head = f"{repository}:"
        return any(path_matches(path, pattern.removeprefix(head)) for pattern in self.paths if pattern.startswith(head))

    def __bool__(self) -> bool:
        return bool(self.repositories or self.paths or self.authors)

    def includes(self, other: "Forgotten") -> bool:
        """Whether all that the other list names is on this one."""
        return (self | other).names() == self.names()

    def names(self) -> dict[str, tuple[str, ...]]:
        """What must be left out, by kind."""
        return {"repositories": self.repositories, "paths": self.paths, "authors": self.authors}

    def __or__(self, other: "Forgotten") -> "Forgotten":
        return Forgotten(
            repositories=_union(self.repositories, other.repositories),
            paths=_union(self.paths, other.paths),
            authors=_union(self.authors, other.authors),
            digests=_union(self.digests, other.digests),
        )

    def digest(self) -> str:
        """Tells apart lists that leave out different things."""
        return digest_json({kind: list(names) for kind, names in self.names().items()})


def path_matches(path: str, glob: str) -> bool:
    """Whether a glob of .gitignore, or the very path, matches: brackets in a path need no backslash."""
    return path == glob or glob_matches(path, glob)


def _union(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*one, *other}))


def read_forgotten(folder: Path) -> Forgotten:
    """The list of a dataset; empty when it has none. Raises DatasetError when it is damaged."""
    path = folder / FORGOTTEN_NAME
    if not path.is_file():
        return Forgotten()
    hint = "Put back the file from a copy: without it the dataset would take in again what was forgotten."
    return read_model(path, Forgotten, error=DatasetError, hint=hint)


def write_forgotten(folder: Path, forgotten: Forgotten) -> None:
    """Keep the list with its dataset."""
    if forgotten:
        write_json(folder / FORGOTTEN_NAME, forgotten)
