"""Screening without a trace of calls: all tests run with each body in place, and those that fail depend on it."""

from collections.abc import Collection
from dataclasses import dataclass

from data_pipelines.benchmark.body_runs import BodyRuns
from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.judgement import Judgement, Unfit, judgement_of
from data_pipelines.benchmark.screen import MAX_NAMED, NOT_ALONE, SURVIVES_PLAIN, SURVIVES_RAISING, time_allowed
from finetune.execution.runners.base import WHOLE_RUN, TestRun

MISSED = ("failed", "error")


@dataclass(frozen=True, slots=True)
class WholeRuns:
    """Runs all of a repository's tests in the jail with one body at a time replaced. Threads may share it.

    A test that was not heard of, since nothing was built or the process ended before, tells nothing about a body.
    seconds: of a whole run of all tests.
    """

    runs: BodyRuns
    steady: frozenset[str]
    seconds: float

    def screen(self, function: Function, name: str) -> Judgement:
        """Judge function, recorded as name."""
        return judgement_of(name, lambda: self._screen(function, name))

    def _screen(self, function: Function, name: str) -> Judgement:
        stubbed = self.runs.run(function, function.stub)
        missed = self._missed(stubbed)
        if not missed:
            whole = all(stubbed.outcomes.get(test) == "passed" for test in self.steady)
            raise Unfit(SURVIVES_RAISING if whole else "no test is run when it raises")
        weak = self._weak(function, missed)
        runs = [stubbed, *weak.values()]
        failing = chosen([self._missed(run) for run in runs], MAX_NAMED)
        near = {place_of(test) for test in failing}
        passing = {test for run in runs for test in self.steady if run.outcomes.get(test) == "passed"}
        passing = {test for test in passing if place_of(test) in near} - set().union(*map(self._missed, runs))
        alone = [*failing, *sorted(passing)[:MAX_NAMED]]
        original = self.runs.run(function, None, tests=alone)
        if not original.passed(alone):
            raise Unfit(NOT_ALONE)
        return Judgement(
            name=name,
            fail_to_pass=tuple(failing),
            pass_to_pass=tuple(alone[len(failing) :]),
            weak=tuple(weak),
            timeout_seconds=time_allowed(max(original.seconds, self.seconds)),
        )

    def _weak(self, function: Function, missed: Collection[str]) -> dict[str, TestRun]:
        """The plain bodies that are built, with what the tests do then."""
        kept = {}
        for body in function.weak:
            run = self.runs.run(function, body)
            if not any(test in run.outcomes for test in missed) or WHOLE_RUN in run.outcomes:
                continue  # its file does not compile, and nobody would have written it; or it never ended
            if not self._missed(run):
                raise Unfit(SURVIVES_PLAIN)
            kept[body] = run
        if not kept:
            raise Unfit("no plain value can be built in its place")
        return kept

    def _missed(self, run: TestRun) -> set[str]:
        """Steady tests that were heard to go wrong, each for itself and not with all of its package."""
        found = {test for test in self.steady if run.outcomes.get(test) in MISSED}
        return {test for test in found if run.outcomes[test] == "failed" or place_of(test) not in run.outcomes}


def chosen(missed: list[set[str]], limit: int) -> list[str]:
    """At most limit of all that were missed, in order; of each run at least one."""
    sure = {min(tests) for tests in missed}
    others = sorted(set().union(*missed) - sure)
    return sorted([*sure, *others[: limit - len(sure)]])


def place_of(test: str) -> str:
    """The file, package or class of a test."""
    return test.partition("::")[0]
