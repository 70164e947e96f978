"""The folder of a finished suite: nothing else is overwritten, and files that trees share are written once."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetune.contracts.dataset import ReasonCount
from finetune.contracts.errors import InputError
from finetune.contracts.executed import (
    SUITE_NAME,
    TASKS_NAME,
    TREES_NAME,
    ExecutedSuite,
    ExecutedTask,
    Toolchain,
)
from finetune.contracts.executed_files import suite_digest
from finetune.contracts.io import new_folder, write_json


def check_target(out: Path) -> None:
    """Raise InputError when out holds something else than a suite."""
    if out.exists() and not (out / SUITE_NAME).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(
            f"{out} holds something else than executed tasks; it is left as it is.", "Name another folder."
        )


def write_suite(
    out: Path,
    tasks: Sequence[ExecutedTask],
    *,
    trees: Mapping[str, Path],
    toolchain: Toolchain,
    left: Mapping[tuple[str, str], int],
    seconds: float,
) -> ExecutedSuite:
    """Write the suite of tasks with those of trees, folders by name, that they name; out is replaced at the end.

    left counts what became no task by stage and reason; seconds: how long mining took.
    """
    with new_folder(out.absolute()) as scratch:
        (scratch / TREES_NAME).mkdir()
        copied: dict[tuple[int, int], Path] = {}
        for name in sorted({task.tree for task in tasks}):
            _copy_tree(trees[name], scratch / TREES_NAME / name, copied)
        lines = "".join(task.model_dump_json() + "\n" for task in sorted(tasks, key=lambda task: task.id))
        (scratch / TASKS_NAME).write_text(lines, encoding="utf-8")
        counts = tuple(
            ReasonCount(stage=stage, reason=reason, count=count) for (stage, reason), count in sorted(left.items())
        )
        suite = ExecutedSuite(
            digest=suite_digest(scratch),
            toolchains=(toolchain,),
            num_tasks=len(tasks),
            left_out=counts,
            seconds=round(seconds, 1),
        )
        write_json(scratch / SUITE_NAME, suite)
    return suite


def _copy_tree(tree: Path, target: Path, copied: dict[tuple[int, int], Path]) -> None:
    """Copy tree; a file that is one with a file copied before, by a hard link, is linked to that copy."""

    def copy(source: str, place: str) -> None:
        status = os.stat(source)
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in copied:
            os.link(copied[key], place)
        else:
            shutil.copy2(source, place)
            copied[key] = Path(place)

    shutil.copytree(tree, target, copy_function=copy)
