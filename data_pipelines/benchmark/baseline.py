"""What a repository's tests do before anything is cut out: which pass each time, and which functions they enter."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import Jail, JailResult, Limits
from finetune.execution.runners.base import FOLDER, Runner, TestRun, new_word

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
    """steady tests passed each time; other tests are counted in left_out by reason. seconds: one whole run."""

    steady: tuple[str, ...]
    calls: tuple[Calls, ...]
    left_out: tuple[tuple[str, int], ...]
    seconds: float

    def tests_of(self) -> Mapping[tuple[str, int], tuple[str, ...]]:
        """The tests that enter a function, those that enter the fewest functions first."""
        return {(one.path, one.line): one.tests for one in self.calls}


class _Listening(Jail):
    """A jail that keeps what its last run wrote."""

    def __init__(self, jail: Jail) -> None:
        super().__init__(jail._host)
        self.heard = ""

    def run(self, command: Sequence[str], **options: Any) -> JailResult:
        """As the jail does."""
        result = super().run(command, **options)
        self.heard = result.stdout
        return result


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
    calls = _calls(runner, toolchain, jail=jail, tree=tree, steady=frozenset(steady))
    return Baseline(
        steady=tuple(steady),
        calls=calls,
        left_out=tuple(sorted(left.items())),
        seconds=round(max(run.seconds for run in runs), 2),
    )


def _checked(run: TestRun) -> TestRun:
    if run.broken:
        raise MachineError(f"The tests could not be run: {run.broken}", "Correct that, then type the same again.")
    return run


def _calls(
    runner: Runner, toolchain: Toolchain, *, jail: Jail, tree: Path, steady: frozenset[str]
) -> tuple[Calls, ...]:
    word = new_word()
    environment = {**dict(toolchain.environment), "PYTEST_PLUGINS": PLUGIN, "FINETUNE_CALLS_WORD": word}
    environment["PYTHONPATH"] = f"/repo/{FOLDER}"
    plugin = files("data_pipelines.benchmark.inside").joinpath(f"{PLUGIN}.py").read_bytes()
    listening = _Listening(jail)
    told = toolchain.model_copy(update={"environment": tuple(environment.items())})
    overlay = {f"{FOLDER}/{PLUGIN}.py": plugin}
    _checked(runner.run(listening, told, tree=tree, overlay=overlay, tests=(), limits=LIMITS))
    return _by_function(_entries(listening.heard, word), steady)


def _entries(heard: str, word: str) -> list[Mapping[str, object]]:
    lines = [line.removeprefix(f"{word} ") for line in heard.splitlines() if line.startswith(f"{word} ")]
    return [json.loads(line) for line in lines]


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
