"""`git log --raw -z` as a stream of commits, newest first, without merges."""

import re
from collections.abc import Iterator
from typing import IO

from data_pipelines.document import Change, Commit

HEADER = "%H%x00%ct%x00%ae%x00%an%x00%B%x00"
ARGUMENTS = (
    "log",
    "--raw",
    "-z",
    "--no-abbrev",
    "--no-renames",
    "--no-merges",
    "--no-ext-diff",
    "--no-textconv",
    "--no-show-signature",
    "--no-mailmap",
    "--no-color",
    "--no-notes",
    "-O/dev/null",
    "--encoding=UTF-8",
    f"--format={HEADER}",
)
READ_BYTES = 1 << 20
# a message or a path that never ends must not fill the memory
MAX_FIELD_BYTES = 16 << 20
MAX_TIME = (1 << 62) - 1
OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def parse_log(stream: IO[bytes]) -> Iterator[Commit]:
    """Commits from the output of ARGUMENTS; ends quietly where the output does, even in the middle of a commit,
    and at a field above MAX_FIELD_BYTES.
    """
    fields = _fields(stream)
    pending = next(fields, None)
    while pending is not None:
        name = pending.strip().decode("ascii", "replace")
        header = [next(fields, None) for _ in range(5)]
        if None in header or not OBJECT_ID.fullmatch(name):
            return
        changes = []
        pending = next(fields, None)
        while pending is not None and pending.lstrip(b"\n").startswith(b":"):
            path = next(fields, None)
            if path is None:
                return
            changes.append(_change(pending.lstrip(b"\n"), path))
            pending = next(fields, None)
        when, email, author, message, _ = (part.decode("utf-8", "replace") for part in header if part is not None)
        yield Commit(name, _time(when), email, author, message, tuple(changes))


def _fields(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(READ_BYTES):
        *whole, rest = (rest + block).split(b"\0")
        yield from whole
        if len(rest) > MAX_FIELD_BYTES:
            return
    if rest:
        yield rest


def _change(entry: bytes, path: bytes) -> Change:
    _, _, before, after, status = entry.decode("ascii", "replace").split(" ")
    return Change(path=path, status=status[:1], before=before, after=after)


def _time(text: str) -> int:
    # committer times can be written by hand: outside this range they are no time
    return min(max(int(text), 0), MAX_TIME) if text.lstrip("-").isdigit() else 0
