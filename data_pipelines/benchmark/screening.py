"""Functions are judged one after the other, and what came of each is kept at once for the next start."""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.journal import Journal
from data_pipelines.benchmark.quick import Glance, Quick
from data_pipelines.benchmark.screen import UNTESTED, Candidate, Screen, Screened
from finetune.contracts.io import digest_text
from finetune.terminal.progress import Progress

# at a quick look: more share the start of a process, fewer are lost to a kill
BATCH = 16


@dataclass(frozen=True, slots=True)
class Work:
    """The folder beside the suite that holds what a killed run leaves to the next one."""

    folder: Path

    @property
    def tree(self) -> Path:
        """The commit's files."""
        return self.folder / "tree"

    @property
    def journal(self) -> Journal[Screened]:
        """Functions judged so far."""
        return Journal(self.folder / "functions.jsonl", Screened)


def enough(kept: Collection[str], following: str, *, limit: int | None) -> bool:
    """Whether limit functions are kept of those ahead of following, the next one to be judged.

    Those behind it do not count: a killed run leaves gaps, and what fills them decides which functions come first.
    """
    return limit is not None and sum(digest_text(name) < digest_text(following) for name in kept) >= limit


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of each function by name. fresh counts those judged now, tested those of them that took runs."""

    screened: Mapping[str, Screened]
    fresh: int
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

    def run(self, work: Work, *, limit: int | None, jobs: int) -> Judged:
        """Judge in an order that digests decide, until limit are kept; what work holds is not judged again."""
        began = time.monotonic()
        done = {one.function: one for one in work.journal.finished() if one.function in self.functions}
        before = len(done)
        with (
            work.journal.writing() as stream,
            Progress("Screening functions", len(self.functions), start_at=before) as progress,
            ThreadPoolExecutor(jobs) as pool,
        ):
            run = _Run(self, done, limit=limit, jobs=jobs)
            untested = [name for name in sorted(self.functions) if name not in done and not run.candidate(name).tests]

            def keep(one: Screened) -> None:
                done[one.function] = one
                if not one.broken:  # the infrastructure's failures are tried again
                    stream.write(one.model_dump_json() + "\n")
                    stream.flush()
                progress.advance(detail=f"{len(run.kept()):,} tasks")

            for name in untested:
                keep(Screened(function=name, reason=UNTESTED))
            try:
                for one in run.judged(pool):
                    keep(one)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        fresh = len(done) - before
        return Judged(done, fresh, fresh - len(untested), time.monotonic() - began)


Step = Callable[[], Glance | Screened]


@dataclass(slots=True)
class _Run:
    """What is under way: names that wait for a quick look, last first, and steps that go before them."""

    screening: Screening
    done: dict[str, Screened]
    limit: int | None
    jobs: int
    waiting: list[str] = field(init=False)
    ready: deque[tuple[Step, tuple[str, ...]]] = field(init=False, default_factory=deque)
    running: dict[Future[Glance | Screened], tuple[str, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        names = (name for name in self.screening.functions if name not in self.done and self.candidate(name).tests)
        self.waiting = sorted(names, key=digest_text, reverse=True)

    def candidate(self, name: str) -> Candidate:
        function = self.screening.functions[name]
        return Candidate(name, function, self.screening.tests.get((function.path, function.start), ()))

    def kept(self) -> set[str]:
        return {name for name, one in self.done.items() if not (one.reason or one.broken)}

    def judged(self, pool: ThreadPoolExecutor) -> Iterator[Screened]:
        """Each function that was judged, as soon as it is."""
        while self._start(pool):
            for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                del self.running[future]
                found = future.result()
                if isinstance(found, Screened):
                    yield found
                else:
                    yield from found.out
                    self._go_on(found)

    def _start(self, pool: ThreadPoolExecutor) -> bool:
        """Keep the pool at work; False when nothing is left to do."""
        while len(self.running) < self.jobs and (self.ready or self._look()):
            step, names = self.ready.popleft()
            self.running[pool.submit(step)] = names
        return bool(self.running)

    def _look(self) -> bool:
        """Make the next names ready, if any is needed beside those under way."""
        names: list[str] = []
        under_way = self.kept().union(*self.running.values())
        size = BATCH if self.limit is None else min(BATCH, -(-self.limit // self.jobs))
        while self.waiting and len(names) < size and not enough(under_way, self.waiting[-1], limit=self.limit):
            names.append(self.waiting.pop())
            under_way.add(names[-1])
        if names:
            candidates = [self.candidate(name) for name in names]
            quick = self.screening.quick
            step = partial(quick.look, candidates) if quick else partial(Glance, unsure=tuple(candidates))
            self.ready.append((step, tuple(names)))
        return bool(names)

    def _go_on(self, glance: Glance) -> None:
        """What was kept by the quick look is judged by whole runs; what it did not come to waits again."""
        self.waiting += sorted((one.name for one in glance.unseen), key=digest_text, reverse=True)
        screen = self.screening.screen
        for one in glance.told:
            self.ready.append((partial(screen.screen, one, weak=False), (one.name,)))
        for one in glance.unsure:
            self.ready.append((partial(screen.screen, one), (one.name,)))
