"""Screening without a trace of calls: all tests run with each body in place, and those that fail depend on it."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipelines.benchmark.baseline import LIMITS, RUNS
from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.screen import MAX_NAMED, Screened, time_allowed
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import REPOSITORY_TESTS, Jail
from finetune.execution.runners.base import WHOLE_RUN, Runner, TestRun

MISSED = ("failed", "error")


class SteadyTests(Contract):
    """Tests that passed each time; others are counted in left_out by reason. seconds: the longest whole run."""

    names: tuple[str, ...]
    left_out: tuple[tuple[str, int], ...]
    seconds: float


def steady_tests(runner: Runner, toolchain: Toolchain, *, jail: Jail, tree: Path) -> SteadyTests:
    """Run all tests three times. Raises InputError when none passes each time, MachineError when they cannot run."""
    runs = [runner.run(jail, toolchain, tree=tree, overlay={}, tests=(), limits=LIMITS) for _ in range(RUNS)]
    broken = next((run.broken for run in runs if run.broken), "")
    if broken:
        raise MachineError(f"The tests could not be run: {broken}", "Correct that, then type the same again.")
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
            "See that its tests pass offline with that program, then type the same again.",
        )
    seconds = round(max(run.seconds for run in runs), 2)
    return SteadyTests(names=tuple(steady), left_out=tuple(sorted(left.items())), seconds=seconds)


class ScreenedBody(Screened):
    """weak are the plain bodies that can be built, and that its tests tell from the author's."""

    weak: tuple[str, ...] = ()


class _NoTaskError(Exception):
    """A function that becomes no task; the text is the reason."""


class _BrokenError(Exception):
    """The tests could not be run."""


@dataclass(frozen=True, slots=True)
class WholeRuns:
    """Runs all of a repository's tests in the jail with one body at a time replaced. Threads may share it.

    A test that was not heard of, since nothing was built or the process ended before, tells nothing about a body.
    """

    jail: Jail
    runner: Runner
    toolchain: Toolchain
    tree: Path
    steady: frozenset[str]
    seconds: float

    def screen(self, function: Function, name: str) -> ScreenedBody:
        """Judge function, journalled as name."""
        try:
            return self._screen(function, name)
        except _NoTaskError as reason:
            return ScreenedBody(function=name, reason=str(reason))
        except _BrokenError as broken:
            return ScreenedBody(function=name, broken=str(broken))

    def _screen(self, function: Function, name: str) -> ScreenedBody:
        stubbed = self._run(function, function.stub)
        missed = self._missed(stubbed)
        if not missed:
            whole = all(stubbed.outcomes.get(test) == "passed" for test in self.steady)
            raise _NoTaskError("its tests pass when it raises" if whole else "no test is run when it raises")
        weak = self._weak(function, missed)
        runs = [stubbed, *weak.values()]
        failing = chosen([self._missed(run) for run in runs], MAX_NAMED)
        near = {place_of(test) for test in failing}
        passing = {test for run in runs for test in self.steady if run.outcomes.get(test) == "passed"}
        passing = {test for test in passing if place_of(test) in near} - set().union(*map(self._missed, runs))
        alone = [*failing, *sorted(passing)[:MAX_NAMED]]
        original = self._run(function, None, tests=alone)
        if not original.passed(alone):
            raise _NoTaskError("its tests do not pass when they are run alone")
        return ScreenedBody(
            function=name,
            fail_to_pass=tuple(failing),
            pass_to_pass=tuple(alone[len(failing) :]),
            weak=tuple(weak),
            timeout_seconds=time_allowed(max(original.seconds, self.seconds)),
        )

    def _weak(self, function: Function, missed: Collection[str]) -> dict[str, TestRun]:
        """The plain bodies that are built, with what the tests do then."""
        kept = {}
        for body in function.weak:
            run = self._run(function, body)
            if not any(test in run.outcomes for test in missed) or WHOLE_RUN in run.outcomes:
                continue  # its file does not compile, and nobody would have written it; or it never ended
            if not self._missed(run):
                raise _NoTaskError("its tests pass when it returns a plain value")
            kept[body] = run
        if not kept:
            raise _NoTaskError("no plain value can be built in its place")
        return kept

    def _missed(self, run: TestRun) -> set[str]:
        """Steady tests that were heard to go wrong, each for itself and not with all of its package."""
        found = {test for test in self.steady if run.outcomes.get(test) in MISSED}
        return {test for test in found if run.outcomes[test] == "failed" or place_of(test) not in run.outcomes}

    def _run(self, function: Function, body: str | None, tests: Collection[str] = ()) -> TestRun:
        """body None: as the author wrote it."""
        overlay: Mapping[str, bytes | None] = {}
        if body is not None:
            text = (self.tree / function.path).read_bytes().decode("utf-8")
            overlay = {function.path: function.replaced(text, body).encode("utf-8")}
        run = self.runner.run(
            self.jail,
            self.toolchain,
            tree=self.tree,
            overlay=overlay,
            tests=tuple(tests),
            limits=replace(REPOSITORY_TESTS, timeout_seconds=time_allowed(self.seconds)),
        )
        if run.broken:
            raise _BrokenError(run.broken)
        return run


def chosen(missed: list[set[str]], limit: int) -> list[str]:
    """At most limit of all that were missed, in order; of each run at least one."""
    sure = {min(tests) for tests in missed}
    others = sorted(set().union(*missed) - sure)
    return sorted([*sure, *others[: limit - len(sure)]])


def place_of(test: str) -> str:
    """The file, package or class of a test."""
    return test.partition("::")[0]
