"""The quick look: forks of one warm process throw out functions whose stubs survive; what is kept is judged again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipelines.benchmark.screen import MAX_RUN, SURVIVES_PLAIN, SURVIVES_RAISING, Candidate, Screened
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import REPOSITORY_TESTS, Jail
from finetune.execution.runners.pytest_forks import Trial, Tried, try_texts

LEAST_SECONDS = 5.0
# of a whole run of all tests; what takes longer than that with a stub is taken for an endless loop and judged again
SLOWER = 3


@dataclass(frozen=True, slots=True)
class Glance:
    """What a quick look at candidates came to.

    out were thrown out. told had each stub killed. unsure ended the jail or could not be looked at. unseen came behind
    one that ended it.
    """

    out: tuple[Screened, ...] = ()
    told: tuple[Candidate, ...] = ()
    unsure: tuple[Candidate, ...] = ()
    unseen: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Quick:
    """Looks at candidates in the jail, many in one process. modules: what their tests import from outside the tree.

    seconds: of a whole run of all tests. Threads may share it.
    """

    jail: Jail
    toolchain: Toolchain
    tree: Path
    modules: Sequence[str]
    seconds: float

    def look(self, candidates: Sequence[Candidate]) -> Glance:
        """Try the stubs of each against its tests."""
        limit = min(REPOSITORY_TESTS.timeout_seconds, max(LEAST_SECONDS, SLOWER * self.seconds))
        tried = try_texts(
            self.jail,
            self.toolchain,
            tree=self.tree,
            trials=[self._trial(one) for one in candidates],
            modules=self.modules,
            limits=replace(REPOSITORY_TESTS, timeout_seconds=limit),
        )
        return glance(candidates, tried)

    def _trial(self, one: Candidate) -> Trial:
        function = one.function
        text = (self.tree / function.path).read_bytes().decode("utf-8")
        texts = tuple(function.replaced(text, body) for body in (function.stub, *function.weak))
        return Trial(function.path, texts, tuple(one.tests[:MAX_RUN]))


def glance(candidates: Sequence[Candidate], tried: Tried) -> Glance:
    """Sort candidates by what came of them; where no trial was begun, all are unsure."""
    survivors: Mapping[int, int | None] = tried.survivors
    behind = len(candidates) if tried.stopped_at is None else tried.stopped_at + 1
    places = range(len(candidates))
    return Glance(
        out=tuple(
            Screened(function=candidates[place].name, reason=SURVIVES_PLAIN if number else SURVIVES_RAISING)
            for place, number in sorted(survivors.items())
            if number is not None
        ),
        told=tuple(candidates[place] for place, number in sorted(survivors.items()) if number is None),
        unsure=tuple(candidates[place] for place in places if place not in survivors and place < behind),
        unseen=tuple(candidates[place] for place in places if place not in survivors and place >= behind),
    )
