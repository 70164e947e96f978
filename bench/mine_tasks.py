"""Check a finished suite of executed tasks again: what the authors wrote passes, every stub fails.

python bench/mine_tasks.py SUITE [SUITE ...]
"""

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from finetune.contracts.executed import TREES_NAME, ExecutedTask, Toolchain
from finetune.contracts.executed_files import read_suite, toolchain_of
from finetune.execution.jail import Jail, Limits
from finetune.execution.runners.registry import RUNNERS

LIMITS = Limits(memory_bytes=4 << 30, max_processes=256, output_bytes=16 << 20)


def passes(task: ExecutedTask, body: str, *, toolchain: Toolchain, tree: Path) -> bool:
    lines = (tree / task.path).read_text(encoding="utf-8").split("\n")
    text = "\n".join([*lines[: task.first_line - 1], body, *lines[task.last_line :]])
    tests = [*task.fail_to_pass, *task.pass_to_pass]
    run = RUNNERS[toolchain.runner].run(
        Jail.open(),
        toolchain,
        tree=tree,
        overlay={task.path: text.encode()},
        tests=tests,
        limits=replace(LIMITS, timeout_seconds=task.timeout_seconds),
        stop_at_first_failure=True,
    )
    if run.broken:
        raise SystemExit(f"{task.id}: {run.broken}")
    return run.passed(tests)


def check(folder: Path) -> str:
    suite, tasks = read_suite(folder)
    seen: Counter[str] = Counter()

    def one(task: ExecutedTask) -> Counter[str]:
        tree = folder / TREES_NAME / task.tree
        toolchain = toolchain_of(suite, task)
        gold = passes(task, task.gold[0].text or "", toolchain=toolchain, tree=tree)
        weak = [passes(task, body, toolchain=toolchain, tree=tree) for body in task.weak]
        return Counter(gold=gold, stubs=len(weak), stubs_failed=weak.count(False))

    with ThreadPoolExecutor(2) as pool:
        for counts in pool.map(one, tasks):
            seen.update(counts)
    return f"| {folder.name} | {len(tasks)} | {seen['gold']} | {seen['stubs_failed']} of {seen['stubs']} |"


if __name__ == "__main__":
    print("| suite | tasks | gold passes | stubs fail |\n| --- | --- | --- | --- |")
    for name in sys.argv[1:]:
        print(check(Path(name)), flush=True)
