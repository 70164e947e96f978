"""What a repository's tests do before anything is cut out: which pass each time, and which functions they enter."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from data_pipelines.benchmark.steady import SteadyTests, steady_tests, whole_run
from finetune.contracts.dataset import Contract
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import Jail
from finetune.execution.runners.base import FOLDER, Runner

PLUGIN = "finetune_calls"


class Calls(Contract):
    """A function by its file and the first line of its code, and the tests that enter it."""

    path: str
    line: int
    tests: tuple[str, ...]


class Baseline(SteadyTests):
    """The functions that steady tests enter. modules: what the tests import from outside the tree, in that order."""

    calls: tuple[Calls, ...]
    modules: tuple[str, ...]

    def tests_of(self) -> Mapping[tuple[str, int], tuple[str, ...]]:
        """The tests that enter a function, those that enter the fewest functions first."""
        return {(one.path, one.line): one.tests for one in self.calls}


def take_baseline(runner: Runner, toolchain: Toolchain, *, jail: Jail, tree: Path) -> Baseline:
    """Run all tests three times and once more with the plugin. Raises as steady_tests does."""
    tests = steady_tests(runner, toolchain, jail=jail, tree=tree)
    told = _traced(runner, toolchain, jail=jail, tree=tree)
    return Baseline(
        **dict(tests),
        calls=_by_function(told, frozenset(tests.steady)),
        modules=tuple(name for entry in told for name in _modules(entry)),
    )


def _traced(runner: Runner, toolchain: Toolchain, *, jail: Jail, tree: Path) -> tuple[Mapping[str, object], ...]:
    """What the plugin says of a whole run."""
    environment = {**dict(toolchain.environment), "PYTEST_PLUGINS": PLUGIN, "PYTHONPATH": f"/repo/{FOLDER}"}
    told = toolchain.model_copy(update={"environment": tuple(environment.items())})
    plugin = files("data_pipelines.benchmark.inside").joinpath(f"{PLUGIN}.py").read_bytes()
    return whole_run(runner, told, jail=jail, tree=tree, overlay={f"{FOLDER}/{PLUGIN}.py": plugin}).told


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
