"""A task as any harness needs it: a tree that lacks something, what the author wrote, tests, and both as patches."""

import difflib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.benchmark.copies import Copies
from data_pipelines.benchmark.functions import RAISES, is_test_file
from finetune.contracts.executed import ExecutedTask

Files = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class PortableTask:
    """A task of a suite. tree is the suite's; before are files that take the place of its own: a stub for a body.

    gold are the author's files, tests those of a commit; text None takes a file away.
    """

    task: ExecutedTask
    tree: Path
    before: Files
    gold: Files

    @property
    def name(self) -> str:
        """Its name among tasks of all repositories."""
        return f"{slug(self.task.repo)}__{self.task.kind}-{self.task.id}".lower()

    @property
    def tests(self) -> Files:
        """Test files as the commit left them; none for a body, whose tests lie in the tree."""
        return {file.path: file.text for file in self.task.tests}

    @property
    def base_commit(self) -> str:
        """The commit whose tree it is."""
        return self.task.commit if self.task.kind == "body" else self.task.tree

    @property
    def test_files(self) -> tuple[str, ...]:
        """The files of the tests that grade it, sorted."""
        names = (*self.task.fail_to_pass, *self.task.pass_to_pass)
        return tuple(sorted({name.partition("::")[0] for name in names}))

    def gold_patch(self) -> str:
        """From the tree that a model gets to the author's."""
        return "".join(_diff(path, self._old(path), text) for path, text in sorted(self.gold.items()))

    def test_patch(self) -> str:
        """From the tree's tests to the commit's; "" for a body."""
        return "".join(_diff(path, self._old(path), text) for path, text in sorted(self.tests.items()))

    def copy_tree(self, target: Path, copies: Copies) -> None:
        """Write the tree that a model gets to target."""
        copies.copy_tree(self.tree, target, leave_out=self.before)
        write_files(target, self.before)
        for path in self.before:
            shutil.copymode(self.tree / path, target / path)

    def copy_tests(self, target: Path, copies: Copies) -> None:
        """Write all files of the tree that hold or serve tests to target, those of the commit as it left them."""
        target.mkdir(parents=True)
        for source in sorted(self.tree.rglob("*")):
            path = source.relative_to(self.tree).as_posix()
            if source.is_file() and is_test_file(path) and path not in self.tests:
                copies.copy_file(source, target / path)
        write_files(target, self.tests)

    def _old(self, path: str) -> str | None:
        if path in self.before:
            return self.before[path]
        place = self.tree / path
        return place.read_bytes().decode("utf-8") if place.is_file() else None


def portable_task(task: ExecutedTask, tree: Path) -> PortableTask:
    """The task as others need it."""
    if task.kind == "commit":
        return PortableTask(task, tree, {}, {file.path: file.text for file in task.gold})
    text = (tree / task.path).read_bytes().decode("utf-8")
    lines = text.split("\n")
    body = lines[task.first_line - 1]
    stub = task.weak[0] if task.weak else body[: len(body) - len(body.lstrip(" \t"))] + RAISES
    without = "\n".join([*lines[: task.first_line - 1], stub, *lines[task.last_line :]])
    return PortableTask(task, tree, {task.path: without}, {task.path: text})


def slug(name: str) -> str:
    """A name in letters that every tool takes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "repository"


def write_files(folder: Path, files: Files) -> None:
    """Write those that have a text below folder."""
    for path, text in files.items():
        if text is not None:
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text.encode("utf-8"))


def _diff(path: str, old: str | None, new: str | None) -> str:
    """One file of a patch as `git apply` reads it; "" when nothing differs."""
    if old == new:
        return ""
    head = [f"diff --git a/{path} b/{path}\n"]
    if old is None:
        head.append("new file mode 100644\n")
    if new is None:
        head.append("deleted file mode 100644\n")
    names = ("/dev/null" if old is None else f"a/{path}", "/dev/null" if new is None else f"b/{path}")
    return "".join([*head, *_hunks(old or "", new or "", names)])


def _hunks(old: str, new: str, names: tuple[str, str]) -> Iterator[str]:
    # lines end at "\n" alone, as git has it
    for line in difflib.unified_diff(_lines(old), _lines(new), *names):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lines(text: str) -> list[str]:
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]
