"""A folder of executed tasks is used only if it is the one that its digest names."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.contracts.errors import DatasetError
from finetune.contracts.executed import ExecutedSuite, ExecutedTask, FileText, Toolchain
from finetune.contracts.executed_files import read_suite, suite_digest, toolchain_of
from finetune.contracts.io import write_json, write_text

TASK = ExecutedTask(
    id="add",
    kind="body",
    language="python",
    repo="shop",
    commit="c",
    path="cart.py",
    cluster="",
    tree="one",
    statement="",
    first_line=2,
    last_line=2,
    gold=(FileText(path="cart.py", text="    return 1"),),
    fail_to_pass=("test_cart.py::test_add",),
    timeout_seconds=5.0,
)
PYTEST = Toolchain(runner="pytest", program="/venv/bin/python")
GO = Toolchain(runner="go", program="/go/bin/go")


def save(folder: Path, *tasks: ExecutedTask, toolchains: tuple[Toolchain, ...] = (PYTEST,)) -> Path:
    write_text(folder / "trees" / "one" / "cart.py", "def add():\n    return 1\n")
    write_text(folder / "tasks.jsonl", "".join(task.model_dump_json() + "\n" for task in tasks))
    suite = ExecutedSuite(digest=suite_digest(folder), toolchains=toolchains, num_tasks=len(tasks), seconds=0.0)
    write_json(folder / "suite.json", suite)
    return folder


def test_a_folder_is_read_with_its_tasks(tmp_path: Path) -> None:
    suite, tasks = read_suite(save(tmp_path / "suite", TASK))
    assert tasks == (TASK,)
    assert toolchain_of(suite, TASK) == PYTEST


def test_each_task_has_the_toolchain_of_its_language(tmp_path: Path) -> None:
    other = TASK.model_copy(update={"id": "other", "language": "go"})
    suite, _ = read_suite(save(tmp_path / "suite", TASK, other, toolchains=(GO, PYTEST)))
    assert [toolchain_of(suite, task).runner for task in (TASK, other)] == ["pytest", "go"]


def alter_tree(folder: Path) -> None:
    (folder / "trees" / "one" / "cart.py").write_text("def add():\n    return 2\n")


def add_file(folder: Path) -> None:
    (folder / "trees" / "one" / "conftest.py").write_text("")


def make_program(folder: Path) -> None:
    (folder / "trees" / "one" / "cart.py").chmod(0o755)


def turn_link(folder: Path) -> None:
    (folder / "trees" / "one" / "link").symlink_to("cart.py")


def cut_tasks(folder: Path) -> None:
    path = folder / "tasks.jsonl"
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [alter_tree, add_file, make_program, turn_link, cut_tasks])
def test_an_altered_folder_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = save(tmp_path / "suite", TASK)
    damage(folder)
    with pytest.raises(DatasetError, match="was altered"):
        read_suite(folder)


@pytest.mark.parametrize("name", ["suite.json", "tasks.jsonl"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path / "suite", TASK)
    (folder / name).unlink()
    with pytest.raises(DatasetError, match=name):
        read_suite(folder)
    with pytest.raises(DatasetError, match="no executed tasks"):
        read_suite(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tree": "two"}, "two, which task add names, is no folder"),
        ({"tree": ".."}, "is no folder"),
        ({"path": "../secret"}, "outside its tree"),
        ({"tests": (FileText(path="/etc/passwd", text=""),)}, "outside its tree"),
        ({"last_line": 1}, "names no lines"),
    ],
)
def test_a_task_that_cannot_be_graded_is_named(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    folder = save(tmp_path / "suite", TASK.model_copy(update=changes))
    with pytest.raises(DatasetError, match=told):
        read_suite(folder)


def test_tasks_are_counted_and_their_lines_checked(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="2 different tasks"):
        read_suite(save(tmp_path / "twice", TASK, TASK))
    folder = save(tmp_path / "wrong", TASK)
    write_text(folder / "tasks.jsonl", TASK.model_dump_json() + "\n" + json.dumps({"id": "x"}) + "\n")
    suite = json.loads((folder / "suite.json").read_text())
    write_json(folder / "suite.json", {**suite, "digest": suite_digest(folder), "num_tasks": 2})
    with pytest.raises(DatasetError, match="line 2, is no task"):
        read_suite(folder)


def test_trees_that_share_a_file_have_the_digest_of_trees_that_hold_copies(tmp_path: Path) -> None:
    linked, copied = (save(tmp_path / name, TASK) for name in ("linked", "copied"))
    (linked / "trees" / "two").mkdir()
    os.link(linked / "trees" / "one" / "cart.py", linked / "trees" / "two" / "cart.py")
    write_text(copied / "trees" / "two" / "cart.py", "def add():\n    return 1\n")
    assert suite_digest(linked) == suite_digest(copied)
    write_text(copied / "trees" / "two" / "cart.py", "def add():\n    return 2\n")
    assert suite_digest(linked) != suite_digest(copied)
