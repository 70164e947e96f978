"""Suite: tasks that both models are measured on, one after the other, task by task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from finetune.contracts.adapter import Score
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
        ...

    def more_scores(self, rows: Sequence[PairedRow]) -> tuple[Score, ...]:
        """Paired scores that metrics cannot name; most suites have none."""
        ...
