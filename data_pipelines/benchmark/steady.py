"""Which of a repository's tests pass each time, before anything is changed."""

from collections import Counter
from pathlib import Path

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import Jail, Limits
from finetune.execution.runners.base import Runner, TestRun

RUNS = 3
# of a run of all tests
LIMITS = Limits(
    timeout_seconds=1800.0, memory_bytes=4 << 30, max_processes=256, output_bytes=256 << 20, max_open_files=1024
)


class SteadyTests(Contract):
    """steady tests passed each time; others are counted in left_out by reason. seconds: the longest whole run."""

    steady: tuple[str, ...]
    left_out: tuple[tuple[str, int], ...]
    seconds: float


def steady_tests(runner: Runner, toolchain: Toolchain, *, jail: Jail, tree: Path) -> SteadyTests:
    """Run all tests three times. Raises InputError when none passes each time, MachineError when they cannot run."""
    runs = [whole_run(runner, toolchain, jail=jail, tree=tree) for _ in range(RUNS)]
    steady, left = [], Counter[str]()
    for name in sorted(set().union(*(run.outcomes for run in runs))):
        outcomes = {run.outcomes.get(name, "not run") for run in runs}
        if outcomes == {"passed"}:
            steady.append(name)
        else:
            left[f"test {min(outcomes)} each time" if len(outcomes) == 1 else "test is flaky"] += 1
    if not steady:
        raise InputError(
            f"No test of this repository passes under {toolchain.program}: {runs[0].log.strip()[-600:]}",
            "Install what its tests need, see that they pass offline with that program, then type the same again.",
        )
    seconds = round(max(run.seconds for run in runs), 2)
    return SteadyTests(steady=tuple(steady), left_out=tuple(sorted(left.items())), seconds=seconds)


def whole_run(
    runner: Runner, toolchain: Toolchain, *, jail: Jail, tree: Path, overlay: dict[str, bytes | None] | None = None
) -> TestRun:
    """Run all tests. Raises MachineError when they cannot run."""
    run = runner.run(jail, toolchain, tree=tree, overlay=overlay or {}, tests=(), limits=LIMITS)
    if run.broken:
        raise MachineError(f"The tests could not be run: {run.broken}", "Correct that, then type the same again.")
    return run
