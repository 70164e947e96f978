"""How fast functions are judged: by a quick look first, and by whole runs alone, in turns on the same functions.

python -m bench.mining_speed REPO --python VENV/bin/python [--functions 24] [--rounds 1]

Functions are the first by digest of those that tests enter. Seconds of processors are those of all processes in and
around the jails, but for runs that a limit ended: on a shared machine they say what the clock cannot.
"""

import argparse
import os
import re
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_pipelines.benchmark.baseline import take_baseline
from data_pipelines.benchmark.body_runs import BodyRuns
from data_pipelines.benchmark.exported import export_tree
from data_pipelines.benchmark.judgement import Judgement
from data_pipelines.benchmark.mining import python_functions
from data_pipelines.benchmark.quick import Quick
from data_pipelines.benchmark.record import Record
from data_pipelines.benchmark.screen import Screen
from data_pipelines.benchmark.screening import Screening
from data_pipelines.sources.git import open_repository
from finetune.contracts.io import digest_text
from finetune.execution.host import find_host
from finetune.execution.jail import Jail, JailResult
from finetune.execution.runners.registry import RUNNERS
from finetune.terminal.output import table

JOBS = 2


class CountingJail(Jail):
    """A jail that adds up the processor seconds that its programs report."""

    processor_seconds = 0.0
    adding = threading.Lock()

    def run(self, *words: Any, **options: Any) -> JailResult:
        result = super().run(*words, **options)
        found = [float(one) for one in re.findall(r'"processor_seconds": ([0-9.]+)', result.stdout)]
        with self.adding:
            CountingJail.processor_seconds += sum(found)
        return result


@dataclass(frozen=True, slots=True)
class Timed:
    """One way to judge the functions."""

    way: str
    num_functions: int
    seconds: float
    processor_seconds: float
    load: float
    kept: int

    def cells(self) -> tuple[str, ...]:
        each = self.processor_seconds / self.num_functions
        return (
            self.way,
            str(self.num_functions),
            str(self.kept),
            f"{self.num_functions / self.seconds * 60:.0f}",
            f"{self.load:.1f}",
            f"{each:.2f} s",
            f"{JOBS * 60 / each:.0f}",
        )


def prepare(repo: Path, python: Path, scratch: Path, count: int) -> Screening:
    """The first count functions that tests enter."""
    Jail.open()
    jail, runner = CountingJail(find_host()), RUNNERS["pytest"]
    toolchain = runner.toolchain(python)
    tree = scratch / "tree"
    with open_repository(repo, name=repo.name) as repository:
        export_tree(repository, tree)
    baseline = take_baseline(runner, toolchain, jail=jail, tree=tree)
    tests = baseline.tests_of()
    print(f"All tests once, at the slowest of three: {baseline.seconds} s", file=sys.stderr)
    functions = python_functions(tree, Counter())
    found = {name: one for name, one in functions.items() if (one.path, one.start) in tests}
    return Screening(
        screen=Screen(BodyRuns(jail, runner, toolchain, tree)),
        quick=Quick(jail, toolchain, tree, baseline.modules),
        functions={name: found[name] for name in sorted(found, key=digest_text)[:count]},
        tests=tests,
    )


def timed(way: str, screening: Screening) -> tuple[Timed, dict[str, Judgement]]:
    with tempfile.TemporaryDirectory() as folder:
        reported = CountingJail.processor_seconds
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        record = Record(Path(folder, "judged.jsonl"), list(screening.functions), limit=None)
        screening.run(record, jobs=JOBS)
        seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    used += CountingJail.processor_seconds - reported
    kept = len(record.kept)
    found = {name: one.model_copy(update={"timeout_seconds": 0.0}) for name, one in record.done.items()}
    return Timed(way, len(found), seconds, used, os.getloadavg()[0], kept), found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--functions", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    rows, differ = [], set()
    with tempfile.TemporaryDirectory() as scratch:
        screening = prepare(given.repo, given.python, Path(scratch), given.functions)
        for _ in range(given.rounds):
            quick, quickly = timed("quick look first", screening)
            whole, slowly = timed("whole runs alone", replace(screening, quick=None))
            rows += [quick.cells(), whole.cells()]
            differ |= {name for name in quickly if quickly[name] != slowly[name]}
    header = ("way", "functions", "kept", "a minute", "load", "processor, each", "a minute if two cores were idle")
    print(table(rows, header=header))
    print(f"Judged otherwise by the two ways: {len(differ)} {sorted(differ)}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
