"""The folder of a finished suite: nothing else is overwritten, and files that trees share are written once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from data_pipelines.benchmark.copies import Copies
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
    labels_of: str = "",
) -> ExecutedSuite:
    """Write the suite of tasks with those of trees, folders by name, that they name; out is replaced at the end.

    left counts what became no task by stage and reason; seconds: how long mining took. labels_of: the
    digest of the dataset by which tasks are labelled.
    """
    with new_folder(out.absolute()) as scratch:
        (scratch / TREES_NAME).mkdir()
        copies = Copies()
        for name in sorted({task.tree for task in tasks}):
            copies.copy_tree(trees[name], scratch / TREES_NAME / name)
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
            labels_of=labels_of,
        )
        write_json(scratch / SUITE_NAME, suite)
    return suite
