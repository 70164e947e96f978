"""A suite of executed tasks written in another layout; what cannot be written there is counted."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

from data_pipelines.benchmark.layouts.harbor import HarborLayout
from data_pipelines.benchmark.layouts.portable import PortableTask, portable_task, slug
from data_pipelines.benchmark.layouts.swebench import SwebenchLayout
from finetune.contracts.dataset import Contract, ReasonCount
from finetune.contracts.errors import InputError
from finetune.contracts.executed import TREES_NAME, ExecutedTask
from finetune.contracts.executed_files import read_suite, toolchain_of
from finetune.contracts.io import new_folder, write_json
from finetune.terminal.progress import Progress

NOTE_NAME = "export.json"


class ExportNote(Contract):
    """What an exported folder is: its layout, the suite's digest, the base image, and what was left out."""

    schema_version: Literal[1] = 1
    layout: str
    suite: str
    image: str
    num_tasks: int
    left_out: tuple[ReasonCount, ...] = ()


class Layout(Protocol):
    """Writes tasks below a folder."""

    def add(self, portable: PortableTask) -> str:
        """Write a task; why it was left out, "" when it was not."""
        ...

    def finish(self) -> None:
        """Write what is about all tasks."""
        ...


LAYOUTS: Mapping[str, Callable[..., Layout]] = {"swebench": SwebenchLayout, "harbor": HarborLayout}


def export_suite(suite_folder: Path, out: Path, *, layout: str, image: str) -> ExportNote:
    """Write the tasks of a suite to out, which is replaced only on success.

    image: the local container image in which tests run, "" for <repository>-tests. Raises DatasetError for a damaged
    suite, InputError when out holds something else or no task can be written.
    """
    _check_target(out)
    suite, tasks = read_suite(suite_folder)
    left: Counter[str] = Counter()
    dataset = slug(tasks[0].repo) if tasks else slug(suite_folder.name)
    image = image or f"{dataset}-tests".lower()
    with new_folder(out.absolute()) as scratch, Progress("Writing tasks", len(tasks)) as progress:
        writer = LAYOUTS[layout](scratch, dataset=f"{dataset}/executed", image=image)
        num_tasks = 0
        for task in tasks:
            tree = suite_folder / TREES_NAME / task.tree
            runner = toolchain_of(suite, task).runner
            reason = "" if runner == "pytest" else f"tests that {runner} runs"
            reason = reason or writer.add(portable_task(task, tree))
            left.update([reason] if reason else [])
            num_tasks += not reason
            progress.advance()
        if not num_tasks:
            raise InputError(
                f"No task of {suite_folder} can be written: {_reasons(left, tasks)}.",
                "Mine some first: finetune data tasks",
            )
        writer.finish()
        counts = tuple(ReasonCount(stage="export", reason=name, count=left[name]) for name in sorted(left))
        note = ExportNote(layout=layout, suite=suite.digest, image=image, num_tasks=num_tasks, left_out=counts)
        write_json(scratch / NOTE_NAME, note)
    return note


def _reasons(left: Counter[str], tasks: tuple[ExecutedTask, ...]) -> str:
    return "; ".join(sorted(left)) if tasks else "it has none"


def _check_target(out: Path) -> None:
    if out.exists() and not (out / NOTE_NAME).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(
            f"{out} holds something else than exported tasks; it is left as it is.", "Name another folder."
        )
