"""An export on disk to threads of review comments, with what was left out and why."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.sources.forge import github, gitlab
from data_pipelines.sources.forge.records import Item, Problem, Refused, ReviewThread
from data_pipelines.sources.forge.shelf import Shelf
from data_pipelines.sources.forge.stream import SUFFIXES, Record, read_records
from data_pipelines.sources.forge.threads import thread_of
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.io import digest_file, digest_text

HINT = (
    "Give sources[].reviews a folder or a file of an unpacked GitLab project export, of a GitHub migration archive, or"
    " of what `gh api --paginate repos/OWNER/REPO/pulls?state=all` and `.../pulls/comments` print."
)
PROJECT_FILE = "project.json"
# repositories, attachments and uploads lie beside the records of an archive
OTHER_FOLDERS = frozenset((".git", "repositories", "attachments", "uploads", "lfs-objects", "snippets"))


def read_reviews(path: Path, *, min_comment_chars: int) -> Iterator[ReviewThread | Refused]:
    """Threads that a person opened and that were resolved or merged, by request; what is left out comes as Refused.

    path is a file or a folder of GitHub's or GitLab's records. min_comment_chars counts what the first comment says
    outside of code and quotes; a suggested change needs no words. Raises InputError when path is missing, cannot be
    read, or holds no record that is known, MachineError when the disk for temporary files is full.
    """
    try:
        yield from _read(path, min_comment_chars)
    except sqlite3.OperationalError as cause:
        raise MachineError(
            f"The comments of {path} cannot be put in order on disk: {cause}.",
            "Free some space in the folder for temporary files, or name another: export SQLITE_TMPDIR=/path.",
        ) from cause


def export_digest(path: Path) -> str:
    """Tells exports apart by the names and the content of their files; one that cannot be read has a digest too."""
    try:
        rows = [f"{name}\0{digest_file(file)}" for file, name in _files(path)]
    except (InputError, OSError):
        rows = ["cannot be read"]
    return digest_text("\n".join(rows))


def _read(path: Path, min_comment_chars: int) -> Iterator[ReviewThread | Refused]:
    is_known = False
    with Shelf() as shelf:
        for record, place in _records(path):
            items = _items(record)
            is_known |= items is not None
            for item in items if items is not None else [Problem(record.reason or "of no kind that is read here")]:
                if isinstance(item, Problem):
                    yield Refused(item.reason, place)
                else:
                    shelf.put(item, place)
        if not is_known:
            raise InputError(f"{path} holds no merge requests and no review comments of GitHub or GitLab.", HINT)
        for gathered in shelf.threads():
            yield thread_of(gathered, min_comment_chars=min_comment_chars)


def _records(path: Path) -> Iterator[tuple[Record, str]]:
    for file, name in _files(path):
        try:
            for record in read_records(file, members=file.name == PROJECT_FILE):
                if record.key in ("", "merge_requests"):
                    yield record, f"{name}:{record.number}"
        except OSError as cause:
            raise InputError(f"{file} cannot be read: {cause.strerror}.", "Correct its permissions.") from cause


def _items(record: Record) -> Iterator[Item] | None:
    value = record.value
    if not isinstance(value, dict):
        return None
    found = github.read(value)
    return found if found is not None else gitlab.read(value)


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path} is no JSON file.", f"Unpack it first, when it is an archive. {HINT}")
        yield path, path.name
        return
    if not path.is_dir():
        raise InputError(f"{path} does not exist.", HINT)
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(set(folders) - OTHER_FOLDERS)
        for name in sorted(names):
            file = Path(folder, name)
            if file.suffix in SUFFIXES and file.is_file() and not file.is_symlink():
                yield file, file.relative_to(path).as_posix()
