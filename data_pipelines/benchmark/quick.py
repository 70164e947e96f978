"""The quick look: forks of one warm process try plain values in the place of bodies, many functions in one jail."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.benchmark.judgement import Judgement
from data_pipelines.benchmark.screen import SLOWER, Examined
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import REPOSITORY_TESTS, Jail
from finetune.execution.runners.pytest_forks import Trial, Tried, try_texts

# on the clock, for what sleeps or waits; of a processor a second at least, the finest that the kernel counts
LEAST_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Glance:
    """What a quick look at functions came to.

    judged were told from plain values or not. unsure ended the jail or could not be looked at. unseen came behind one
    that ended it.
    """

    judged: tuple[Judgement, ...] = ()
    unsure: tuple[Examined, ...] = ()
    unseen: tuple[Examined, ...] = ()


@dataclass(frozen=True, slots=True)
class Quick:
    """Looks at functions in the jail, many in one process. modules: what their tests import from outside the tree.

    Threads may share it.
    """

    jail: Jail
    toolchain: Toolchain
    tree: Path
    modules: Sequence[str]

    def look(self, functions: Sequence[Examined]) -> Glance:
        """Try the plain values of each against the tests that fail when it raises."""
        tried = try_texts(
            self.jail,
            self.toolchain,
            tree=self.tree,
            trials=[self._trial(one) for one in functions],
            modules=self.modules,
            limits=REPOSITORY_TESTS,
        )
        return glance(functions, tried)

    def _trial(self, one: Examined) -> Trial:
        function = one.candidate.function
        text = (self.tree / function.path).read_bytes().decode("utf-8")
        allowed = SLOWER * one.seconds
        return Trial(
            function.path,
            tuple(function.replaced(text, body) for body in function.weak),
            one.failing,
            seconds=min(REPOSITORY_TESTS.timeout_seconds, max(LEAST_SECONDS, allowed)),
            # an endless loop is known by what it takes of a processor, also where that is shared
            processor_seconds=math.ceil(allowed),
        )


def glance(functions: Sequence[Examined], tried: Tried) -> Glance:
    """Sort functions by what came of them; where no trial was begun, all are unsure."""
    behind = len(functions) if tried.stopped_at is None else tried.stopped_at + 1
    left = [(place, one) for place, one in enumerate(functions) if place not in tried.survivors]
    return Glance(
        judged=tuple(
            functions[place].kept() if survivor is None else functions[place].survived()
            for place, survivor in sorted(tried.survivors.items())
        ),
        unsure=tuple(one for place, one in left if place < behind),
        unseen=tuple(one for place, one in left if place >= behind),
    )
