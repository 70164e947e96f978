"""Commits of merged requests that are in no history: a squash made one of them, and a mirror kept the branches."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_pipelines.document import Commit
from data_pipelines.sources.history import ARGUMENTS, OBJECT_ID, parse_log
from data_pipelines.sources.process import safe_environment, start_git


def branch_commits(git_dir: Path, heads: Iterable[str], *, commit: str) -> Iterator[Commit]:
    """Commits that lead to one of heads and not to commit, newest first, without merges.

    heads are names from an export: what is no object id, or is not in the repository, is passed over. A clone made with
    `git clone --mirror` from GitHub has them all as refs/pull/*. What is damaged ends the commits early.
    """
    wanted = sorted({head for head in heads if OBJECT_ID.fullmatch(head)})
    if not wanted:
        return
    # names come from a file: written to a pipe, they and the answers could each wait for the other
    with tempfile.TemporaryFile() as names:
        names.write("".join(f"{name}\n" for name in [*wanted, f"^{commit}"]).encode("ascii"))
        names.seek(0)
        child = start_git(
            [*ARGUMENTS, "--ignore-missing", "--stdin"],
            cwd=git_dir,
            environment=safe_environment(git_dir),
            stdin=names.fileno(),
        )
        try:
            assert child.stdout is not None
            yield from parse_log(child.stdout)
        finally:
            if child.stdout is not None:
                child.stdout.close()
            child.terminate()
            child.wait()
