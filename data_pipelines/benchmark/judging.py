"""Candidates are judged some at a time, in the order of a record, until it has enough of them."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from data_pipelines.benchmark.judgement import Judgement
from data_pipelines.benchmark.record import Record

Found = TypeVar("Found")


class Steps(Protocol[Found]):
    """What is to be done for judgements. Steps run in threads, both methods in one."""

    def following(self) -> Callable[[], Found] | None:
        """The next step; None when none is needed, as long as nothing more is taken."""
        ...

    def taken(self, found: Found) -> Iterable[Judgement]:
        """The judgements that the outcome of a step gives."""
        ...


def judge_all(record: Record, steps: Steps[Found], *, title: str, jobs: int, known: Iterable[Judgement] = ()) -> None:
    """Record known, which took no step, and what steps give, jobs of them at a time."""
    running: set[Future[Found]] = set()
    with record.writing(title) as keep, ThreadPoolExecutor(jobs) as pool:
        try:
            for one in known:
                keep(one)
            while _start(running, steps, pool=pool, jobs=jobs):
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    for one in steps.taken(future.result()):
                        keep(one)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start(running: set[Future[Found]], steps: Steps[Found], *, pool: ThreadPoolExecutor, jobs: int) -> bool:
    """Keep the pool at work; False when nothing is left to do."""
    while len(running) < jobs and (step := steps.following()) is not None:
        running.add(pool.submit(step))
    return bool(running)


@dataclass(slots=True)
class OneByOne:
    """Each candidate takes one step."""

    record: Record
    judge: Callable[[str], Judgement]
    waiting: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = self.record.waiting()

    def following(self) -> Callable[[], Judgement] | None:
        """Judge the next one."""
        if not self.waiting or self.record.enough(self.waiting[-1]):
            return None
        return partial(self.judge, self.waiting.pop())

    def taken(self, found: Judgement) -> Iterable[Judgement]:
        """It."""
        return (found,)
