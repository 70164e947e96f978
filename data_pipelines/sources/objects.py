"""Objects by name through one long-lived `git cat-file --batch`, which a damaged object may end but not stop."""

import subprocess
from pathlib import Path

from data_pipelines.sources.history import OBJECT_ID
from data_pipelines.sources.process import end, start_git

# reading past an object costs its size; above this a new process is cheaper
MAX_SKIPPED_BYTES = 4 << 20
READ_BYTES = 1 << 20
ATTEMPTS = 2


class _BrokenOff(Exception):
    """git ended before it had given the whole object."""


class ObjectReader:
    """unreadable holds the names of blobs that are there and cannot be read; missing and large ones are not in it."""

    def __init__(self, git_dir: Path, environment: dict[str, str]) -> None:
        self.unreadable: set[str] = set()
        self._git_dir = git_dir
        self._environment = environment
        self._child: subprocess.Popen[bytes] | None = None

    def read(self, name: str, *, kind: str, max_bytes: int) -> bytes | None:
        """An object's bytes; None when it is missing, damaged, of another kind, or larger than max_bytes."""
        assert OBJECT_ID.fullmatch(name)
        if name in self.unreadable:
            return None
        # the second attempt tells a damaged object from a process that somebody ended
        for _ in range(ATTEMPTS):
            try:
                return self._read(name, kind=kind, max_bytes=max_bytes)
            except (OSError, _BrokenOff):
                self.close()
        if kind == "blob":
            self.unreadable.add(name)
        return None

    def close(self) -> None:
        """End the process; the next read starts another."""
        if self._child is not None:
            end(self._child)
            self._child = None

    def _read(self, name: str, *, kind: str, max_bytes: int) -> bytes | None:
        child = self._process()
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(name.encode("ascii") + b"\n")
        child.stdin.flush()
        words = child.stdout.readline().decode("ascii", "replace").split()
        if not words:
            raise _BrokenOff
        if len(words) != 3:
            return None
        size = int(words[2])
        if words[1] != kind or size > max_bytes:
            self._skip(size)
            return None
        content = child.stdout.read(size + 1)
        if len(content) != size + 1:
            raise _BrokenOff
        return content[:-1]

    def _process(self) -> "subprocess.Popen[bytes]":
        if self._child is None:
            self._child = start_git(
                ["cat-file", "--batch"], cwd=self._git_dir, environment=self._environment, stdin=subprocess.PIPE
            )
        return self._child

    def _skip(self, size: int) -> None:
        if size > MAX_SKIPPED_BYTES:
            self.close()
            return
        assert self._child is not None and self._child.stdout is not None
        left = size + 1
        while left > 0 and (block := self._child.stdout.read(min(left, READ_BYTES))):
            left -= len(block)
