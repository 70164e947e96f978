"""Functions that tests are known to enter are judged: each by two whole runs, then many at once by a quick look."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.judgement import Judgement
from data_pipelines.benchmark.judging import judge_all
from data_pipelines.benchmark.quick import Glance, Quick
from data_pipelines.benchmark.record import Record
from data_pipelines.benchmark.screen import UNTESTED, Candidate, Examined, Screen

# at a quick look: more share the start of a process, fewer are lost to a kill
BATCH = 16
Step = Callable[[], Glance | Examined | Judgement]


@dataclass(frozen=True, slots=True)
class Spent:
    """tested counts functions judged now that took runs of tests; no test enters the others."""

    tested: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Screening:
    """Which functions there are, the tests that enter them by path and line, and how they are judged.

    quick None: plain values are tried by whole runs, too.
    """

    screen: Screen
    quick: Quick | None
    functions: Mapping[str, Function]
    tests: Mapping[tuple[str, int], tuple[str, ...]]

    def run(self, record: Record, *, jobs: int) -> Spent:
        """Judge what record has not, until it has enough."""
        began = time.monotonic()
        waiting = record.waiting()
        tested = [name for name in waiting if self.candidate(name).tests]
        untested = set(waiting).difference(tested)
        known = [Judgement(name=name, reason=UNTESTED) for name in sorted(untested)]
        steps = _Steps(self, record, tested, jobs=jobs)
        judge_all(record, steps, title="Screening functions", jobs=jobs, known=known)
        return Spent(record.num_fresh - len(untested), time.monotonic() - began)

    def candidate(self, name: str) -> Candidate:
        """A function with the tests that enter it."""
        function = self.functions[name]
        return Candidate(name, function, self.tests.get((function.path, function.start), ()))


@dataclass(slots=True)
class _Steps:
    """Names that wait, the first one last, and those under way; what was examined and waits for a quick look.

    unsure are those that a quick look did not settle.
    """

    screening: Screening
    record: Record
    waiting: list[str]
    jobs: int
    under_way: set[str] = field(init=False, default_factory=set)
    examined: list[Examined] = field(init=False, default_factory=list)
    unsure: list[Examined] = field(init=False, default_factory=list)

    def following(self) -> Step | None:
        """Whole runs for what a look left, a look once there is enough for one, or the next name that is needed."""
        screen, quick = self.screening.screen, self.screening.quick
        if self.unsure:
            return partial(screen.try_plain, self.unsure.pop())
        if quick and len(self.examined) >= self._batch():
            return partial(quick.look, self._taken(self._batch()))
        if self.waiting and not self.record.enough(self.waiting[-1], besides=self.under_way):
            name = self.waiting.pop()
            self.under_way.add(name)
            return partial(screen.examine, self.screening.candidate(name))
        if quick and self.examined:
            return partial(quick.look, self._taken(-(-len(self.examined) // self.jobs)))
        return None

    def taken(self, found: Glance | Examined | Judgement) -> Iterable[Judgement]:
        """What was judged. What is not yet waits for a look, or for whole runs after one."""
        if isinstance(found, Examined):
            (self.examined if self.screening.quick else self.unsure).append(found)
            return ()
        if isinstance(found, Judgement):
            judged: tuple[Judgement, ...] = (found,)
        else:
            judged = found.judged
            self.unsure += found.unsure
            self.examined += found.unseen
        self.under_way.difference_update(one.name for one in judged)
        return judged

    def _batch(self) -> int:
        limit = self.record.limit
        return BATCH if limit is None else min(BATCH, -(-limit // self.jobs))

    def _taken(self, count: int) -> list[Examined]:
        taken, self.examined = self.examined[:count], self.examined[count:]
        return taken
