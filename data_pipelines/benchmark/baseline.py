"""What a repository's tests do before anything is cut out: which pass each time, and which functions they enter."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import Jail, Limits
from finetune.execution.runners.base import FOLDER, Runner, TestRun

RUNS = 3
PLUGIN = "finetune_calls"
LIMITS = Limits(
    timeout_seconds=1800.0, memory_bytes=4 << 30, max_processes=256, output_bytes=256 << 20, max_open_files=1024
)


class Calls(Contract):
    """A function by its file and the first line of its code, and the tests that enter it."""

    path: str
    line: int
    tests: tuple[str, ...]


class Baseline(Contract):
    """steady tests passed each time; other tests are counted in left_out by reason. seconds: one whole run.

    modules are names of what the tests import from outside the tree, in that order.
    """

    steady: tuple[str, ...]
    calls: tuple[Calls, ...]
    modules: tuple[str, ...]
    left_out: tuple[tuple[str, int], ...]
    seconds: float

    def tests_of(self) -> Mapping[tuple[str, int], tuple[str, ...]]:
        """The tests that enter a function, those that enter the fewest functions first."""
        return {(one.path, one.line): one.tests for one in self.calls}


def take_baseline(runner: Runner, toolchain: Toolchain, *, jail: Jail, tree: Path) -> Baseline:
    """Run all tests three times and once more with the plugin. Raises InputError when nothing passes each time."""
    runs = [_checked(runner.run(jail, toolchain, tree=tree, overlay={}, tests=(), limits=LIMITS)) for _ in range(RUNS)]
    names = sorted(set().union(*(run.outcomes for run in runs)))
    steady, left = [], Counter[str]()
    for name in names:
        outcomes = {run.outcomes.get(name, "not run") for run in runs}
        if outcomes == {"passed"}:
            steady.append(name)
        else:
            left[f"test {min(outcomes)} each time" if len(outcomes) == 1 else "test is flaky"] += 1
    if not steady:
        raise InputError(
            f"No test of this repository passes under {toolchain.program}: {runs[0].log.strip()[-600:]}",
            "Install what its tests need into that environment, and check with pytest there.",
        )
    told = _traced(runner, toolchain, jail=jail, tree=tree)
    return Baseline(
        steady=tuple(steady),
        calls=_by_function(told, frozenset(steady)),
        modules=tuple(name for entry in told for name in _modules(entry)),
        left_out=tuple(sorted(left.items())),
        seconds=round(max(run.seconds for run in runs), 2),
    )


def _checked(run: TestRun) -> TestRun:
    if run.broken:
        raise MachineError(f"The tests could not be run: {run.broken}", "Correct that, then type the same again.")
    return run


def _traced(runner: Runner, toolchain: Toolchain, *, jail: Jail, tree: Path) -> tuple[Mapping[str, object], ...]:
    """What the plugin says of a whole run."""
    environment = {**dict(toolchain.environment), "PYTEST_PLUGINS": PLUGIN, "PYTHONPATH": f"/repo/{FOLDER}"}
    told = toolchain.model_copy(update={"environment": tuple(environment.items())})
    plugin = files("data_pipelines.benchmark.inside").joinpath(f"{PLUGIN}.py").read_bytes()
    overlay = {f"{FOLDER}/{PLUGIN}.py": plugin}
    return _checked(runner.run(jail, told, tree=tree, overlay=overlay, tests=(), limits=LIMITS)).told


def _modules(entry: Mapping[str, object]) -> list[str]:
    match entry:
        case {"modules": list(names)}:
            return [str(name) for name in names]
    return []


def _by_function(entries: Sequence[Mapping[str, object]], steady: frozenset[str]) -> tuple[Calls, ...]:
    places: dict[int, tuple[str, int]] = {}
    tests: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for entry in entries:
        match entry:
            case {"function": int(number), "path": str(path), "line": int(line)}:
                places[number] = (path, line)
            case {"test": str(test), "calls": list(calls)} if test in steady:
                for number in calls:
                    tests[number].append((len(calls), test))
    found = [(places[number], tuple(name for _, name in sorted(named))) for number, named in tests.items()]
    return tuple(Calls(path=path, line=line, tests=named) for (path, line), named in sorted(found))
