"""Suite: tasks that both models are measured on, one after the other, task by task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from finetune.contracts.dataset import ReasonCount
from finetune.contracts.evaluation import Answer, Finding, PairedRow, SuiteName
from finetune.evaluate.metric import Metric

Side = Literal["base", "adapter"]


@dataclass(frozen=True, slots=True)
class Task:
    """What rows say of a task; see PairedRow. wanted is the author's text, "" where it is not kept."""

    id: str
    repo: str = ""
    path: str = ""
    cluster: str = ""
    language: str = ""
    group: str = ""
    slice: str = ""
    prompt: str = ""
    wanted: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """One model at one task: a value by metric's name, what the sum is divided by, the answer and how it was judged.

    broken: the machinery failed and not the model, and why; such a task counts for neither model. "" if it worked.
    """

    task_id: str
    values: Mapping[str, float] = field(default_factory=dict)
    size: float = 1.0
    answer: str = ""
    note: str = ""
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under measurement, in evaluation mode: the base alone, or with the adapter attached."""

    side: Side
    model: Any


class Suite(Protocol):
    """A set of tasks with its metrics. digest identifies tasks and settings: equal digests give equal results."""

    @property
    def name(self) -> SuiteName: ...

    @property
    def metrics(self) -> Sequence[Metric]: ...

    @property
    def tasks(self) -> Sequence[Task]: ...

    @property
    def digest(self) -> str: ...

    def left_out(self) -> tuple[ReasonCount, ...]:
        """Tasks that were passed over before any model was asked, by reason."""
        ...

    def measure(self, subject: Subject, task_ids: Sequence[str], *, told: Callable[[Measured], None]) -> None:
        """Measure subject at the tasks of these ids, in any order; told hears each result once, when it is there."""
        ...

    def findings(self, rows: Sequence[PairedRow], answers: Sequence[Answer]) -> tuple[Finding, ...]:
        """Figures of the adapter alone; most suites have none."""
        return ()


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A suite that cannot be measured here: why, and what to do about it."""

    name: SuiteName
    reason: str


def batches(lengths: Sequence[int], batch_rows: int) -> list[list[int]]:
    """Places of rows, batch by batch, rows of like length together.

    They depend on all rows and not on those that are still to do: another batch sums in another order, and the same
    evaluation would give other bits after a kill.
    """
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    return [order[start : start + batch_rows] for start in range(0, len(order), batch_rows)]
