"""Whether tests can tell a function's body from stubs: the stubs must fail, what the author wrote must pass alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from data_pipelines.benchmark.body_runs import BodyRuns
from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.judgement import Judgement, Unfit, judgement_of

MAX_RUN = 50
MAX_NAMED = 50
LEAST_TIMEOUT_SECONDS = 30
SLOWER = 5
UNTESTED = "no test that passes each time enters it"
SURVIVES_RAISING = "its tests pass when it raises"
SURVIVES_PLAIN = "its tests pass when it returns a plain value"
NOT_ALONE = "its tests do not pass when they are run alone"


def time_allowed(seconds: float) -> float:
    """The timeout in seconds for tests that took so many with the author's body: five times that, in doubling steps.

    Steps, because a suite's digest covers it: the same tests on a busier machine should give the same suite.
    """
    return float(LEAST_TIMEOUT_SECONDS << math.ceil(math.log2(max(SLOWER * seconds / LEAST_TIMEOUT_SECONDS, 1))))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A function by the name under which it is recorded, and the steady tests that enter it, at least one."""

    name: str
    function: Function
    tests: Sequence[str]


@dataclass(frozen=True, slots=True)
class Screen:
    """Judges a function by the tests that enter it. Threads may share it."""

    runs: BodyRuns

    def screen(self, candidate: Candidate, *, weak: bool = True) -> Judgement:
        """Judge a function. weak False: that tests tell it from plain values is known."""
        return judgement_of(candidate.name, lambda: self._screen(candidate, candidate.tests[:MAX_RUN], weak=weak))

    def _screen(self, candidate: Candidate, tests: Sequence[str], *, weak: bool) -> Judgement:
        function = candidate.function
        stubbed = self.runs.run(function, function.stub, tests)
        failing = [test for test in tests if stubbed.outcomes.get(test) != "passed"][:MAX_NAMED]
        passing = [test for test in tests if stubbed.outcomes.get(test) == "passed"][:MAX_NAMED]
        if not failing:
            raise Unfit(SURVIVES_RAISING)
        for body in function.weak if weak else ():
            if self.runs.run(function, body, failing, stop=True).passed(failing):
                raise Unfit(SURVIVES_PLAIN)
        alone = [*failing, *passing]
        original = self.runs.run(function, None, alone)
        if not original.passed(alone):
            raise Unfit(NOT_ALONE)
        return Judgement(
            name=candidate.name,
            fail_to_pass=tuple(failing),
            pass_to_pass=tuple(passing),
            weak=function.weak,
            timeout_seconds=time_allowed(original.seconds),
        )
