"""The files of a commit: from `ls-tree`, and folder by folder where that gives up."""

from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

# a tree of a hundred objects can unfold into billions of paths; the largest real ones hold half a million
MAX_ENTRIES = 1_000_000
MAX_TREE_BYTES = 64 << 20
READ_BYTES = 1 << 20
FOLDER = "40000"
ReadTree = Callable[[str], bytes | None]


class Row(NamedTuple):
    """An entry without its size: raw path, six-digit mode, object name."""

    path: bytes
    mode: str
    blob: str


class Walk(NamedTuple):
    """What was found, folders that could not be read, and whether it was cut off at MAX_ENTRIES."""

    rows: list[Row]
    num_unreadable: int
    is_cut: bool


def parse_listing(stream: IO[bytes]) -> Iterator[Row]:
    """Rows of `ls-tree -r -z`. Raises ValueError for what is none."""
    rest = b""
    while block := stream.read(READ_BYTES):
        *lines, rest = (rest + block).split(b"\0")
        if len(rest) > READ_BYTES:
            raise ValueError("a path that does not end")
        for line in lines:
            meta, path = line.split(b"\t", 1)
            mode, _, blob = meta.decode("ascii").split(" ")
            yield Row(path, mode, blob)


def walk_tree(root: str, read: ReadTree, *, max_entries: int) -> Walk:
    """Every file under the tree root in git's order; read gives a tree object's bytes, None when it cannot."""
    rows: list[Row] = []
    num_unreadable = num_seen = 0
    # entries still to visit, the next one last
    pending = [Row(b"", FOLDER, root)]
    while pending:
        row = pending.pop()
        num_seen += 1
        if num_seen > max_entries:
            return Walk(rows, num_unreadable, is_cut=True)
        if row.mode.lstrip("0") != FOLDER:
            rows.append(row)
            continue
        children = _children(read(row.blob), row)
        if children is None:
            num_unreadable += 1
        else:
            pending += reversed(children)
    return Walk(rows, num_unreadable, is_cut=False)


def _children(content: bytes | None, folder: Row) -> list[Row] | None:
    """The entries of a tree object, None when it is missing or breaks off."""
    if content is None:
        return None
    num_id_bytes = len(folder.blob) // 2
    prefix = folder.path + b"/" if folder.path else b""
    rows, at = [], 0
    while at < len(content):
        space, end = content.find(b" ", at), content.find(b"\0", at)
        start = end + 1
        if not at < space < end or start + num_id_bytes > len(content):
            return None
        mode = content[at:space].decode("ascii", "replace").rjust(6, "0")
        at = start + num_id_bytes
        rows.append(Row(prefix + content[space + 1 : end], mode, content[start:at].hex()))
    return rows
