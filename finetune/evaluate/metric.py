"""Metric: what a column of numbers is, which way is good, and what is asked of it."""

from dataclasses import dataclass
from typing import Literal

from finetune.contracts.evaluation import SuiteName

Direction = Literal["lower is better", "higher is better"]
Kind = Literal["ratio", "mean", "pass or fail"]
Part = Literal["language", "group", "slice", "repo"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of a suite.

    ratio: sum over sum, such as bits per byte; mean: over tasks; pass or fail: 0 or 1 at each task. margin None asks
    whether the adapter is better; a number asks whether it is worse by no more than that (non-inferiority). primary
    is true of one metric of an evaluation, named before anything is seen; the others are adjusted for their number.
    by names the columns of PairedRow that the metric is told apart by, too. scored False: its rows are kept, for
    findings that are made of them, but the two models are not compared by it.
    """

    suite: SuiteName
    name: str
    unit: str
    direction: Direction
    kind: Kind
    primary: bool = False
    margin: float | None = None
    by: tuple[Part, ...] = ()
    scored: bool = True
