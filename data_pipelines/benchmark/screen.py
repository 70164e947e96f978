"""Whether tests can tell a function's body from stubs: the stubs must fail, what the author wrote must pass alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipelines.benchmark.functions import Function
from finetune.contracts.dataset import Contract
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import REPOSITORY_TESTS, Jail
from finetune.execution.runners.base import Runner, TestRun

MAX_RUN = 50
MAX_NAMED = 50
LEAST_TIMEOUT_SECONDS = 30
SLOWER = 5
UNTESTED = "no test that passes each time enters it"
SURVIVES_RAISING = "its tests pass when it raises"
SURVIVES_PLAIN = "its tests pass when it returns a plain value"


def time_allowed(seconds: float) -> float:
    """The timeout in seconds for tests that took so many with the author's body: five times that, in doubling steps.

    Steps, because a suite's digest covers it: the same tests on a busier machine should give the same suite.
    """
    return float(LEAST_TIMEOUT_SECONDS << math.ceil(math.log2(max(SLOWER * seconds / LEAST_TIMEOUT_SECONDS, 1))))


class Screened(Contract):
    """What came of a function: reason "" and its tests, or why it is no task. broken: the infrastructure failed."""

    function: str
    reason: str = ""
    broken: str = ""
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    timeout_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A function by the name under which it is journalled, and the steady tests that enter it, at least one."""

    name: str
    function: Function
    tests: Sequence[str]


class _BrokenError(Exception):
    """The tests could not be run."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Runs a repository's tests with one body at a time replaced, each run as an evaluation grades.

    timeout_seconds: for each run. Threads may share it.
    """

    jail: Jail
    runner: Runner
    toolchain: Toolchain
    tree: Path
    timeout_seconds: float = REPOSITORY_TESTS.timeout_seconds

    def screen(self, candidate: Candidate, *, weak: bool = True) -> Screened:
        """Judge a function. weak False: that tests tell it from plain values is known."""
        try:
            return self._screen(candidate, candidate.tests[:MAX_RUN], weak=weak)
        except _BrokenError as broken:
            return Screened(function=candidate.name, broken=str(broken))

    def _screen(self, candidate: Candidate, tests: Sequence[str], *, weak: bool) -> Screened:
        name, function = candidate.name, candidate.function
        stubbed = self._run(function, function.stub, tests)
        failing = [test for test in tests if stubbed.outcomes.get(test) != "passed"][:MAX_NAMED]
        passing = [test for test in tests if stubbed.outcomes.get(test) == "passed"][:MAX_NAMED]
        if not failing:
            return Screened(function=name, reason=SURVIVES_RAISING)
        for body in function.weak if weak else ():
            if self._run(function, body, failing, stop=True).passed(failing):
                return Screened(function=name, reason=SURVIVES_PLAIN)
        alone = [*failing, *passing]
        original = self._run(function, None, alone)
        if not original.passed(alone):
            return Screened(function=name, reason="its tests do not pass when they are run alone")
        return Screened(
            function=name,
            fail_to_pass=tuple(failing),
            pass_to_pass=tuple(passing),
            timeout_seconds=time_allowed(original.seconds),
        )

    def _run(self, function: Function, body: str | None, tests: Sequence[str], *, stop: bool = False) -> TestRun:
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
            tests=tests,
            limits=replace(REPOSITORY_TESTS, timeout_seconds=self.timeout_seconds),
            stop_at_first_failure=stop,
        )
        if run.broken:
            raise _BrokenError(run.broken)
        return run
