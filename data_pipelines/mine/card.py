"""What the files of a repository must know of one another: a small record for each."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from data_pipelines.extract.base import Extractor
from data_pipelines.mine.cases import is_test_path
from data_pipelines.mine.picks import Picks
from data_pipelines.mine.row import Source

MAX_IMPORTS = 64


@dataclass(frozen=True, slots=True)
class FileCard:
    """A file of a repository.

    cluster names its near-duplicate cluster. imports are the paths of the repository that it imports. defines are the
    names of its functions and types. words are sorted hashes of its identifiers. num_bytes and cuts are as in Picks.
    """

    path: str
    language: str
    cluster: str
    imports: tuple[str, ...]
    defines: tuple[str, ...]
    words: tuple[int, ...]
    num_bytes: int
    cuts: tuple[int, ...]
    is_test: bool


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A file with its text and what was picked from this text."""

    file: Source
    text: bytes
    picks: Picks


# the file at a path of the repository whose rows are made
Load = Callable[[str], LoadedFile]


def card_of(
    picks: Picks, *, path: str, language: str, cluster: str, extractor: Extractor, paths: Collection[str]
) -> FileCard:
    """The card of a file; paths are those that an import may lead to, best a set or a dictionary."""
    names = dict.fromkeys(item.name for item in (*picks.types, *picks.named))
    return FileCard(
        path=path,
        language=language,
        cluster=cluster,
        imports=_resolved(picks.imports, path, extractor=extractor, paths=paths),
        defines=tuple(names),
        words=picks.words,
        num_bytes=picks.num_bytes,
        cuts=picks.cuts,
        is_test=is_test_path(path),
    )


def _resolved(
    imports: tuple[str, ...], importer: str, *, extractor: Extractor, paths: Collection[str]
) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for name in imports:
        target = next((path for path in extractor.module_paths(name, importer) if path in paths), None)
        if target is not None and target != importer:
            found[target] = None
        if len(found) == MAX_IMPORTS:
            break
    return tuple(found)
