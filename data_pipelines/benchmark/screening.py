"""Functions that tests are known to enter are judged: many at once by a quick look, those it keeps by whole runs."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.judgement import Judgement
from data_pipelines.benchmark.judging import judge_all
from data_pipelines.benchmark.quick import Glance, Quick
from data_pipelines.benchmark.record import Record
from data_pipelines.benchmark.screen import UNTESTED, Candidate, Screen

# at a quick look: more share the start of a process, fewer are lost to a kill
BATCH = 16
Step = Callable[[], Glance | Judgement]


@dataclass(frozen=True, slots=True)
class Spent:
    """tested counts functions judged now that took runs of tests; no test enters the others."""

    tested: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Screening:
    """Which functions there are, the tests that enter them by path and line, and how they are judged.

    quick None: each function is judged by whole runs alone.
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
        steps = _Looks(self, record, tested, jobs=jobs)
        judge_all(record, steps, title="Screening functions", jobs=jobs, known=known)
        return Spent(record.num_fresh - len(untested), time.monotonic() - began)

    def candidate(self, name: str) -> Candidate:
        """A function with the tests that enter it."""
        function = self.functions[name]
        return Candidate(name, function, self.tests.get((function.path, function.start), ()))


@dataclass(slots=True)
class _Looks:
    """Names that wait for a quick look, the first one last, steps that go before them, and names under way."""

    screening: Screening
    record: Record
    waiting: list[str]
    jobs: int
    ready: deque[tuple[Step, tuple[str, ...]]] = field(init=False, default_factory=deque)
    under_way: set[str] = field(init=False, default_factory=set)

    def following(self) -> Step | None:
        """A whole run if one is ready, or else a look at the next names that are needed beside those under way."""
        if not self.ready:
            self._look()
        if not self.ready:
            return None
        step, names = self.ready.popleft()
        self.under_way.update(names)
        return step

    def taken(self, found: Glance | Judgement) -> Iterable[Judgement]:
        """What was thrown out or judged. What was kept by a look is ready then; what it did not come to waits again."""
        if isinstance(found, Judgement):
            self.under_way.discard(found.name)
            return (found,)
        unseen = {one.name for one in found.unseen}
        self.under_way -= {one.name for one in (*found.told, *found.unsure)} | {one.name for one in found.out} | unseen
        self.waiting = sorted(unseen.union(self.waiting), key=self.record.places.__getitem__, reverse=True)
        screen = self.screening.screen
        self.ready.extend((partial(screen.screen, one, weak=False), (one.name,)) for one in found.told)
        self.ready.extend((partial(screen.screen, one), (one.name,)) for one in found.unsure)
        return found.out

    def _look(self) -> None:
        names: list[str] = []
        besides = set(self.under_way)
        limit = self.record.limit
        size = BATCH if limit is None else min(BATCH, -(-limit // self.jobs))
        while self.waiting and len(names) < size and not self.record.enough(self.waiting[-1], besides=besides):
            names.append(self.waiting.pop())
            besides.add(names[-1])
        if names:
            candidates = [self.screening.candidate(name) for name in names]
            quick = self.screening.quick
            step = partial(quick.look, candidates) if quick else partial(Glance, unsure=tuple(candidates))
            self.ready.append((step, tuple(names)))
