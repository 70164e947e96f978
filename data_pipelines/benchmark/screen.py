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
class Examined:
    """A function whose tests pass alone with the author's body, in so many seconds; with the raising one some fail."""

    candidate: Candidate
    failing: tuple[str, ...]
    passing: tuple[str, ...]
    seconds: float

    def kept(self) -> Judgement:
        """The judgement where tests tell every plain value from the author's body, too."""
        return Judgement(
            name=self.candidate.name,
            fail_to_pass=self.failing,
            pass_to_pass=self.passing,
            weak=self.candidate.function.weak,
            timeout_seconds=time_allowed(self.seconds),
        )

    def survived(self) -> Judgement:
        """The judgement where a plain value passes for the author's body."""
        return Judgement(name=self.candidate.name, reason=SURVIVES_PLAIN)


@dataclass(frozen=True, slots=True)
class Screen:
    """Judges a function by the tests that enter it, in whole runs. Threads may share it."""

    runs: BodyRuns

    def examine(self, candidate: Candidate) -> Examined | Judgement:
        """Run its tests with the raising body and with the author's; a judgement if that ends it."""
        return judgement_of(candidate.name, lambda: self._examine(candidate))

    def try_plain(self, examined: Examined) -> Judgement:
        """Run its tests with each plain value."""
        return judgement_of(examined.candidate.name, lambda: self._try_plain(examined))

    def _examine(self, candidate: Candidate) -> Examined:
        function, tests = candidate.function, candidate.tests[:MAX_RUN]
        stubbed = self.runs.run(function, function.stub, tests)
        failing = [test for test in tests if stubbed.outcomes.get(test) != "passed"][:MAX_NAMED]
        passing = [test for test in tests if stubbed.outcomes.get(test) == "passed"][:MAX_NAMED]
        if not failing:
            raise Unfit(SURVIVES_RAISING)
        alone = [*failing, *passing]
        original = self.runs.run(function, None, alone)
        if not original.passed(alone):
            raise Unfit(NOT_ALONE)
        return Examined(candidate, tuple(failing), tuple(passing), original.seconds)

    def _try_plain(self, examined: Examined) -> Judgement:
        function = examined.candidate.function
        for body in function.weak:
            if self.runs.run(function, body, examined.failing, stop=True).passed(examined.failing):
                return examined.survived()
        return examined.kept()
