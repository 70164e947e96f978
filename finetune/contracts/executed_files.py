"""Read a folder of executed tasks after proving that its files are those that its digest names."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from finetune.contracts.errors import DatasetError
from finetune.contracts.executed import (
    SUITE_NAME,
    TASKS_NAME,
    TREES_NAME,
    ExecutedSuite,
    ExecutedTask,
    FileText,
    Toolchain,
)
from finetune.contracts.io import digest_file, digest_text, read_model

HINT = "Mine it again with `finetune data tasks`, or copy the whole folder again from where it was made."


def suite_digest(folder: Path) -> str:
    """SHA-256 over tasks.jsonl and each file and link below trees/: paths in order, with content and kind.

    A file that may be executed and one that may not are two different files.
    """
    read: dict[tuple[int, int], str] = {}
    lines = [_line(folder, path, read) for path in (folder / TASKS_NAME, *sorted(_files(folder / TREES_NAME)))]
    return digest_text("\n".join(lines))


def read_suite(folder: Path) -> tuple[ExecutedSuite, tuple[ExecutedTask, ...]]:
    """The suite in folder and its tasks. Raises DatasetError naming the file that is missing, damaged or altered."""
    if not folder.is_dir():
        raise DatasetError(f"There are no executed tasks in {folder}.", HINT)
    suite = read_model(folder / SUITE_NAME, ExecutedSuite, error=DatasetError, hint=HINT)
    for path in (folder / TASKS_NAME, folder / TREES_NAME):
        if not path.exists():
            raise DatasetError(f"{path} is missing from the executed tasks.", HINT)
    if suite_digest(folder) != suite.digest:
        raise DatasetError(f"{folder} does not have the digest that its {SUITE_NAME} names: it was altered.", HINT)
    tasks = tuple(_tasks(folder / TASKS_NAME))
    if len(tasks) != suite.num_tasks or len({task.id for task in tasks}) != len(tasks):
        raise DatasetError(f"{folder / TASKS_NAME} does not hold {suite.num_tasks} different tasks.", HINT)
    for task in tasks:
        _check_task(folder, task, suite.toolchains)
    return suite, tasks


def toolchain_of(suite: ExecutedSuite, task: ExecutedTask) -> Toolchain:
    """What runs the tests of task: the suite's only toolchain, or the one that runs the task's language."""
    if len(suite.toolchains) == 1:
        return suite.toolchains[0]
    wanted = RUNNERS.get(task.language)
    return next(toolchain for toolchain in suite.toolchains if toolchain.runner == wanted)


RUNNERS = {"python": "pytest", "javascript": "javascript", "typescript": "javascript", "go": "go", "java": "java"}


def _tasks(path: Path) -> Iterator[ExecutedTask]:
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line:
            continue
        try:
            yield ExecutedTask.model_validate_json(line)
        except ValidationError as cause:
            first = cause.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the line"
            raise DatasetError(f"{path}, line {number}, is no task: {where}: {first['msg']}.", HINT) from cause


def _check_task(folder: Path, task: ExecutedTask, toolchains: tuple[Toolchain, ...]) -> None:
    tree = folder / TREES_NAME / task.tree
    if not task.tree or "/" in task.tree or task.tree in (".", "..") or not tree.is_dir():
        raise DatasetError(f"{tree}, which task {task.id} names, is no folder of {folder / TREES_NAME}.", HINT)
    for file in (FileText(path=task.path, text=None), *task.gold, *task.tests):
        if not _is_inside(file.path):
            raise DatasetError(f"{folder / TASKS_NAME}: task {task.id} names {file.path!r}, outside its tree.", HINT)
    runners = {toolchain.runner for toolchain in toolchains}
    if not runners or (len(runners) > 1 and RUNNERS.get(task.language) not in runners):
        raise DatasetError(f"{folder / SUITE_NAME} names nothing that runs {task.language}, as task {task.id}.", HINT)
    if task.kind == "body" and not 1 <= task.first_line <= task.last_line:
        raise DatasetError(f"{folder / TASKS_NAME}: task {task.id} names no lines of {task.path}.", HINT)


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        for name in names + [name for name in folders if Path(place, name).is_symlink()]:
            yield Path(place, name)


def _line(folder: Path, path: Path, read: dict[tuple[int, int], str]) -> str:
    """read holds the digests of files read so far: trees of one history share most of theirs, as hard links."""
    name = path.relative_to(folder).as_posix()
    if path.is_symlink():
        return f"link {digest_text(os.readlink(path))} {name}"
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if key not in read:
        read[key] = digest_file(path)
    return f"{'program' if status.st_mode & 0o100 else 'file'} {read[key]} {name}"
