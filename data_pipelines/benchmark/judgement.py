"""What came of a candidate, a function or a commit, and which of those that were judged become tasks."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from finetune.contracts.dataset import Contract

# how many became no task, by stage and reason
Left = Counter[tuple[str, str]]
INFRASTRUCTURE = "infrastructure"
Found = TypeVar("Found")


class Judgement(Contract):
    """Of the candidate of this name: its tests, or the reason why it is no task; broken: why it could not be tested.

    weak are plain bodies of a function that its tests tell from the author's.
    """

    name: str
    reason: str = ""
    broken: str = ""
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    timeout_seconds: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether it may be a task."""
        return not (self.reason or self.broken)


class Unfit(Exception):
    """A candidate that is no task; the text is the reason."""


class BrokenError(Exception):
    """The tests could not be run."""


def judgement_of(name: str, judge: Callable[[], Found]) -> Found | Judgement:
    """What judge returns, or the judgement that it raises as Unfit or BrokenError."""
    try:
        return judge()
    except Unfit as reason:
        return Judgement(name=name, reason=str(reason))
    except BrokenError as broken:
        return Judgement(name=name, broken=str(broken))


def choose(order: Sequence[str], done: Mapping[str, Judgement], *, left: Left, limit: int | None) -> list[str]:
    """The candidates that become tasks: the first limit in order, whatever was judged beside them.

    Each other one is counted in left by reason.
    """
    chosen: list[str] = []
    for name in order:
        one = done.get(name)
        if one is None:
            left["screen", "not judged: --limit was reached"] += 1
        elif not one.kept:
            left[INFRASTRUCTURE if one.broken else "screen", one.broken[:120] or one.reason] += 1
        elif limit is not None and len(chosen) >= limit:
            left["screen", "kept by screening, beyond --limit"] += 1
        else:
            chosen.append(name)
    return chosen
