"""Check a finished suite of executed tasks again: what the authors wrote passes, every weak answer fails.

Weak are the stubs of a body; of a commit doing nothing, and the comments and white space of its change alone.

python bench/mine_tasks.py SUITE [SUITE ...]
"""

import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from data_pipelines.benchmark.commits import cosmetic_part
from finetune.contracts.executed import TREES_NAME, ExecutedTask, Toolchain
from finetune.contracts.executed_files import read_suite, toolchain_of
from finetune.execution.jail import Jail, Limits
from finetune.execution.runners.registry import RUNNERS

LIMITS = Limits(memory_bytes=4 << 30, max_processes=256, output_bytes=16 << 20)


Files = Mapping[str, str | None]


def passes(task: ExecutedTask, files: Files, *, toolchain: Toolchain, tree: Path) -> bool:
    tests = [*task.fail_to_pass, *task.pass_to_pass]
    changed = {**files, **{file.path: file.text for file in task.tests}}
    run = RUNNERS[toolchain.runner].run(
        Jail.open(),
        toolchain,
        tree=tree,
        overlay={path: None if text is None else text.encode() for path, text in changed.items()},
        tests=tests,
        limits=replace(LIMITS, timeout_seconds=task.timeout_seconds),
        stop_at_first_failure=True,
    )
    if run.broken:
        raise SystemExit(f"{task.id}: {run.broken}")
    return run.passed(tests)


def answers(task: ExecutedTask, tree: Path) -> tuple[Files, list[Files]]:
    """The author's files, and those of answers that must fail."""
    if task.kind == "body":
        lines = (tree / task.path).read_bytes().decode("utf-8").split("\n")
        gold, *weak = (
            {task.path: "\n".join([*lines[: task.first_line - 1], body, *lines[task.last_line :]])}
            for body in (task.gold[0].text or "", *task.weak)
        )
        return gold, weak
    before = {file.path: (tree / file.path).read_bytes().decode("utf-8") for file in task.gold}
    form = {file.path: cosmetic_part(before[file.path], file.text or "") for file in task.gold}
    return {file.path: file.text for file in task.gold}, [{}, form] if form != before else [{}]


def check(folder: Path) -> str:
    suite, tasks = read_suite(folder)
    seen: Counter[str] = Counter()

    def one(task: ExecutedTask) -> Counter[str]:
        tree = folder / TREES_NAME / task.tree
        toolchain = toolchain_of(suite, task)
        gold, weak = answers(task, tree)
        passed = [passes(task, files, toolchain=toolchain, tree=tree) for files in (gold, *weak)]
        return Counter(gold=passed[0], stubs=len(weak), stubs_failed=passed[1:].count(False))

    with ThreadPoolExecutor(2) as pool:
        for counts in pool.map(one, tasks):
            seen.update(counts)
    return f"| {folder.name} | {len(tasks)} | {seen['gold']} | {seen['stubs_failed']} of {seen['stubs']} |"


if __name__ == "__main__":
    print("| suite | tasks | gold passes | stubs fail |\n| --- | --- | --- | --- |")
    for name in sys.argv[1:]:
        print(check(Path(name)), flush=True)
