"""A git repository read from its object database at one commit; the work tree is never looked at."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from data_pipelines.document import Commit, TreeEntry
from data_pipelines.sources.history import ARGUMENTS, OBJECT_ID, parse_log
from data_pipelines.sources.process import run_git, safe_environment, start_git
from finetune.contracts.errors import RepositoryError

MISSING = -1


class Repository:
    """An open repository; a context manager that ends its reader process."""

    def __init__(self, *, name: str, path: Path, git_dir: Path, ref: str, commit: str) -> None:
        self.name = name
        self.path = path
        self.ref = ref
        self.commit = commit
        self._git_dir = git_dir
        self._environment = safe_environment(git_dir)
        self._reader: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            _end(self._reader)
            self._reader = None

    def entries(self) -> list[TreeEntry]:
        """Every entry of the commit's tree with its size, in git's order. Raises RepositoryError on a damaged tree."""
        status, listing = self._run("ls-tree", "-r", "-z", "--full-tree", self.commit)
        if status != 0:
            raise self._damaged("its file tree cannot be read")
        rows = []
        for line in listing.split(b"\0")[:-1]:
            meta, path = line.split(b"\t", 1)
            mode, _, blob = meta.decode("ascii").split(" ")
            rows.append((path, mode, blob))
        sizes = self.sizes([blob for _, mode, blob in rows if mode.startswith("100")])
        return [TreeEntry(path, mode, blob, sizes.get(blob, MISSING)) for path, mode, blob in rows]

    def sizes(self, blobs: Sequence[str]) -> dict[str, int]:
        """Sizes of blobs in bytes; a blob that is not in the object database is left out."""
        sizes: dict[str, int] = {}
        # names come from a file: written to a pipe, they and the answers could each wait for the other
        with tempfile.TemporaryFile() as names:
            names.write("".join(f"{blob}\n" for blob in blobs).encode("ascii"))
            names.seek(0)
            child = start_git(
                ["cat-file", "--batch-check", "--buffer"],
                cwd=self._git_dir,
                environment=self._environment,
                stdin=names.fileno(),
            )
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    words = line.decode("ascii", "replace").split()
                    if len(words) == 3 and words[1] == "blob":
                        sizes[words[0]] = int(words[2])
            finally:
                _end(child)
        return sizes

    def content(self, blob: str, *, max_bytes: int) -> bytes | None:
        """A blob's bytes; None when it is missing, no blob, or larger than max_bytes."""
        assert OBJECT_ID.fullmatch(blob)
        reader = self._reader_process()
        assert reader.stdin is not None and reader.stdout is not None
        try:
            reader.stdin.write(blob.encode("ascii") + b"\n")
            reader.stdin.flush()
            words = reader.stdout.readline().decode("ascii", "replace").split()
        except OSError as cause:
            raise self._damaged("git stopped while it was read") from cause
        if not words:
            raise self._damaged(f"object {blob} cannot be read")
        if len(words) != 3:
            return None
        size = int(words[2])
        if words[1] != "blob" or size > max_bytes:
            self._skip(size)
            return None
        content = reader.stdout.read(size + 1)
        if len(content) != size + 1:
            raise self._damaged(f"object {blob} cannot be read")
        return content[:-1]

    def commits(self) -> Iterator[Commit]:
        """Commits that lead to this one, newest first, without merges. Raises RepositoryError on a damaged history."""
        child = start_git(
            [*ARGUMENTS, "--end-of-options", self.commit], cwd=self._git_dir, environment=self._environment
        )
        try:
            assert child.stdout is not None
            yield from parse_log(child.stdout)
            if child.wait() != 0:
                raise self._damaged("its history cannot be read to the end")
        finally:
            _end(child)

    def head_object(self) -> bytes:
        """The raw commit object at the head: tree, parents, author, message."""
        _, content = self._run("cat-file", "commit", self.commit)
        return content

    def _run(self, *arguments: str) -> tuple[int, bytes]:
        return run_git(arguments, cwd=self._git_dir, environment=self._environment)

    def _reader_process(self) -> "subprocess.Popen[bytes]":
        if self._reader is None:
            self._reader = start_git(
                ["cat-file", "--batch"], cwd=self._git_dir, environment=self._environment, stdin=subprocess.PIPE
            )
        return self._reader

    def _skip(self, size: int) -> None:
        assert self._reader is not None and self._reader.stdout is not None
        left = size + 1
        while left > 0 and (block := self._reader.stdout.read(min(left, 1 << 20))):
            left -= len(block)

    def _damaged(self, what: str) -> RepositoryError:
        return RepositoryError(
            f"The repository {self.path} is damaged: {what}.", f"Run `git -C {self.path} fsck`, or clone it again."
        )


def open_repository(path: Path, *, name: str, ref: str = "HEAD") -> Repository:
    """Find the repository at path itself (not above it) and its commit.

    Raises RepositoryError when path is missing, is no repository, or has no commit at ref.
    """
    hint = "Give --repo the folder of a clone, or a bare repository."
    # unlike Path.exists this answers False, and raises nothing, for a folder that may not be entered
    if not os.path.exists(path):
        raise RepositoryError(f"{path} does not exist.", hint)
    if not path.is_dir():
        raise RepositoryError(f"{path} is a file, no git repository.", hint)
    git_dir = _git_dir(path.resolve())
    if git_dir is None:
        raise RepositoryError(f"{path} is no git repository.", hint)
    status, output = run_git(
        ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"],
        cwd=git_dir,
        environment=safe_environment(git_dir),
    )
    commit = output.decode("ascii", "replace").strip()
    if status != 0 or not OBJECT_ID.fullmatch(commit):
        if ref == "HEAD":
            raise RepositoryError(f"The repository {path} has no commits.", "Commit something first, then build again.")
        raise RepositoryError(
            f"The repository {path} has no commit called {ref}.", f"List what there is: git -C {path} branch --all"
        )
    return Repository(name=name, path=path, git_dir=git_dir, ref=ref, commit=commit)


def _git_dir(path: Path) -> Path | None:
    status, output = run_git(
        ["rev-parse", "--absolute-git-dir"], cwd=path, environment=safe_environment(ceiling=path.parent)
    )
    found = Path(output.decode("utf-8", "surrogateescape").rstrip("\n"))
    return found if status == 0 and found.is_dir() else None


def _end(child: "subprocess.Popen[bytes]") -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                continue
    child.terminate()
    child.wait()
