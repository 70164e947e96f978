"""The files of a commit, written from the object database; no checkout, no filters, no hooks, no .git."""

from collections import Counter
from pathlib import Path, PurePosixPath

from data_pipelines.document import TreeEntry
from data_pipelines.sources.git import Repository
from finetune.contracts.io import new_folder

MAX_FILE_BYTES = 32 << 20
PROGRAM = "100755"


def export_tree(repository: Repository, target: Path) -> Counter[str]:
    """Write the tree of the repository's commit to target; returns how many entries were left out by reason."""
    left: Counter[str] = Counter()
    with new_folder(target) as scratch:
        for entry in repository.entries():
            reason = _write(repository, entry, scratch)
            if reason:
                left[reason] += 1
    return left


def place_of(entry: TreeEntry, root: Path) -> Path | str:
    """Where entry belongs below root, or why it has no place there."""
    if not entry.mode.startswith("100"):
        return "symbolic link or submodule"
    try:
        path = PurePosixPath(entry.path.decode("utf-8"))
    except UnicodeDecodeError:
        return "its path is no UTF-8"
    if path.is_absolute() or {"..", ".git"} & set(path.parts):
        return "its path leaves the tree"
    return root / path


def _write(repository: Repository, entry: TreeEntry, root: Path) -> str:
    """ "" when it was written, or why not."""
    place = place_of(entry, root)
    if isinstance(place, str):
        return place
    content = repository.content(entry.blob, max_bytes=MAX_FILE_BYTES)
    if content is None:
        return f"missing, damaged or larger than {MAX_FILE_BYTES:,} bytes"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    place.chmod(0o755 if entry.mode == PROGRAM else 0o644)
    return ""
