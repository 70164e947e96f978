"""A git repository read from its object database at one commit; the work tree is never looked at."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from data_pipelines.document import Commit, TreeEntry
from data_pipelines.sources.history import ARGUMENTS, OBJECT_ID, parse_log
from data_pipelines.sources.objects import ObjectReader
from data_pipelines.sources.process import end, run_git, safe_environment, start_git
from data_pipelines.sources.tree import MAX_ENTRIES, MAX_TREE_BYTES, Walk, parse_listing, walk_tree
from finetune.contracts.errors import RepositoryError

MISSING = -1


class Repository:
    """An open repository; a context manager that ends its reader process.

    What cannot be read is left out, and told afterwards: damage() is the sentence for the report.
    """

    def __init__(self, *, name: str, path: Path, git_dir: Path, ref: str, commit: str) -> None:
        self.name = name
        self.path = path
        self.ref = ref
        self.commit = commit
        self.tree_damage = ""
        """What of the file tree entries() could not read; "" when it was whole."""
        self.history_damage = ""
        """Why commits() stopped before the end; "" when it did not."""
        self._git_dir = git_dir
        self._environment = safe_environment(git_dir)
        self._objects = ObjectReader(git_dir, self._environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._objects.close()

    @property
    def git_dir(self) -> Path:
        """The folder of the object database."""
        return self._git_dir

    @property
    def num_unreadable(self) -> int:
        """Blobs that are there and cannot be read, as far as they were asked for."""
        return len(self._objects.unreadable)

    def damage(self) -> str:
        """What was found damaged so far, for a person; "" when nothing was."""
        objects = f"{self.num_unreadable} files cannot be read" if self.num_unreadable else ""
        return "; ".join(part for part in (self.tree_damage, self.history_damage, objects) if part)

    def entries(self) -> list[TreeEntry]:
        """Every entry of the commit's tree with its size, in git's order; what cannot be read is in tree_damage.

        Raises RepositoryError when not even the top folder can be read.
        """
        rows, num_unreadable, is_cut = self._listing() or self._walked()
        parts = [f"{num_unreadable} folders of its tree cannot be read"] if num_unreadable else []
        parts += [f"its tree has more than {MAX_ENTRIES:,} entries, the rest is left out"] if is_cut else []
        self.tree_damage = ", and ".join(parts)
        sizes = self.sizes([row.blob for row in rows if row.mode.startswith("100")])
        return [TreeEntry(row.path, row.mode, row.blob, sizes.get(row.blob, MISSING)) for row in rows]

    def sizes(self, blobs: Sequence[str]) -> dict[str, int]:
        """Sizes of blobs in bytes; a blob that is not in the object database is left out."""
        sizes: dict[str, int] = {}
        # names come from a file: written to a pipe, they and the answers could each wait for the other
        with tempfile.TemporaryFile() as names:
            names.write("".join(f"{blob}\n" for blob in blobs).encode("ascii"))
            names.seek(0)
            with self._git("cat-file", "--batch-check", "--buffer", stdin=names.fileno()) as (_, output):
                for line in output:
                    words = line.decode("ascii", "replace").split()
                    if len(words) == 3 and words[1] == "blob":
                        sizes[words[0]] = int(words[2])
        return sizes

    def content(self, blob: str, *, max_bytes: int) -> bytes | None:
        """A blob's bytes; None when it is missing, damaged (then counted), no blob, or larger than max_bytes."""
        return self._objects.read(blob, kind="blob", max_bytes=max_bytes)

    def commits(self) -> Iterator[Commit]:
        """Commits that lead to this one, newest first, without merges; why it stopped early is in history_damage."""
        num_read = 0
        with self._git(*ARGUMENTS, "--end-of-options", self.commit) as (child, output):
            for commit in parse_log(output):
                num_read += 1
                yield commit
            # output that is no log any more ends parse_log with git still writing
            if output.read(1) or child.wait() != 0:
                self.history_damage = f"its history cannot be read beyond the newest {num_read} commits"

    def _listing(self) -> Walk | None:
        """What ls-tree gives, None when it gives up."""
        with self._git("ls-tree", "-r", "-z", "--full-tree", self.commit) as (child, output):
            try:
                rows = list(islice(parse_listing(output), MAX_ENTRIES + 1))
            except ValueError:
                return None
            if len(rows) > MAX_ENTRIES:
                return Walk(rows[:MAX_ENTRIES], 0, is_cut=True)
            return Walk(rows, 0, is_cut=False) if child.wait() == 0 else None

    def _walked(self) -> Walk:
        status, output = self._run("rev-parse", "--verify", "--quiet", f"{self.commit}^{{tree}}")
        root = output.decode("ascii", "replace").strip()
        if status != 0 or self._tree(root) is None:
            raise self._damaged("its file tree cannot be read")
        return walk_tree(root, self._tree, max_entries=MAX_ENTRIES)

    def _tree(self, name: str) -> bytes | None:
        return self._objects.read(name, kind="tree", max_bytes=MAX_TREE_BYTES)

    def _run(self, *arguments: str) -> tuple[int, bytes]:
        return run_git(arguments, cwd=self._git_dir, environment=self._environment)

    @contextmanager
    def _git(
        self, *arguments: str, stdin: int = subprocess.DEVNULL
    ) -> "Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]":
        child = start_git(arguments, cwd=self._git_dir, environment=self._environment, stdin=stdin)
        try:
            assert child.stdout is not None
            yield child, child.stdout
        finally:
            end(child)

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
    try:
        status, output = run_git(
            ["rev-parse", "--absolute-git-dir"], cwd=path, environment=safe_environment(ceiling=path.parent)
        )
    except PermissionError:
        return None
    found = Path(output.decode("utf-8", "surrogateescape").rstrip("\n"))
    return found if status == 0 and found.is_dir() else None
