"""The source files that benchmarks of the data pipeline read, from folders and from repositories."""

import random
from collections.abc import Iterator
from pathlib import Path

from python_code import is_text

from data_pipelines.sources.git import Repository, open_repository
from finetune.contracts.errors import RepositoryError

MIN_FILE_BYTES, MAX_FILE_BYTES = 50, 200_000


def texts_of(place: Path, *, history: bool) -> Iterator[bytes]:
    """UTF-8 files of a size that the default filters keep: of a repository's head, else of a plain folder.

    With history also what files of a repository were before, each content once.
    """
    try:
        repository = open_repository(place, name=place.name)
    except RepositoryError:
        contents: Iterator[bytes | None] = folder_contents(place)
    else:
        contents = blobs_of(repository, history=history)
    for content in contents:
        if content is not None and is_usual(content):
            yield content


def is_usual(content: bytes) -> bool:
    """Whether the default filters would look at a file of this size, and it is text."""
    return MIN_FILE_BYTES <= len(content) <= MAX_FILE_BYTES and b"\0" not in content and is_text(content)


def folder_contents(folder: Path) -> Iterator[bytes]:
    """Every file below a folder in a seeded order, without links and version control."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    random.Random(0).shuffle(files)
    for path in files:
        if ".git" not in path.parts and path.stat().st_size <= MAX_FILE_BYTES:
            yield path.read_bytes()


def blobs_of(repository: Repository, *, history: bool) -> Iterator[bytes | None]:
    """Each blob once, in git's order: the head's tree, then commits newest first."""
    with repository:
        seen = dict.fromkeys(entry.blob for entry in repository.entries() if entry.mode.startswith("100"))
        if history:
            seen |= dict.fromkeys(change.after for commit in repository.commits() for change in commit.changes)
        for blob in seen:
            yield repository.content(blob, max_bytes=MAX_FILE_BYTES)
