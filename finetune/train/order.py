"""In which order rows are learned: decided before the first step, from the seed alone, so that a resumed run agrees."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.recipe.schema import TrainSection

# Rows are sorted by length inside a window of this many steps: enough to save most padding, still well mixed.
WINDOW_STEPS = 8


@dataclass(frozen=True)
class RowOrder:
    """indices names the row to learn at each place; a step takes the next rows_per_step of them."""

    indices: tuple[int, ...]
    rows_per_step: int

    @property
    def num_steps(self) -> int:
        """Optimiser steps; the last may have fewer rows."""
        return -(-len(self.indices) // self.rows_per_step)

    def step_tokens(self, lengths: Sequence[int]) -> list[int]:
        """Tokens of each step, padding not counted."""
        size = self.rows_per_step
        return [
            sum(lengths[index] for index in self.indices[start : start + size])
            for start in range(0, len(self.indices), size)
        ]


def plan_order(lengths: Sequence[int], weights: Sequence[float], section: TrainSection) -> RowOrder:
    """The order for rows of these lengths (tokens), each seen weights[i] times an epoch.

    A weight of 1.5 shows a row once, and half of such rows a second time, another half in each epoch. Rows of a
    micro-batch have about the same length; which micro-batches make a step is random.
    """
    assert lengths and len(lengths) == len(weights)
    rows_per_step = section.micro_batch * section.accumulation
    stream: list[int] = []
    wanted: int | None = None if section.max_steps is None else section.max_steps * rows_per_step
    epoch = 0
    while wanted is None or len(stream) < wanted:
        stream += _epoch(weights, random.Random(f"{section.seed}:epoch:{epoch}"))  # noqa: S311
        epoch += 1
        if wanted is None and epoch >= section.epochs:
            wanted = max(1, round(len(stream) * section.epochs / epoch))
    mixer = random.Random(f"{section.seed}:batches")  # noqa: S311
    window = rows_per_step * WINDOW_STEPS
    indices: list[int] = []
    for start in range(0, wanted, window):
        indices += _group(stream[start : min(start + window, wanted)], lengths, section.micro_batch, mixer)
    return RowOrder(tuple(indices), rows_per_step)


def _epoch(weights: Sequence[float], source: random.Random) -> list[int]:
    rows: list[int] = []
    for index, weight in enumerate(weights):
        whole = int(weight)
        rows += [index] * (whole + (source.random() < weight - whole))
    if not rows:
        # Weights below 1 may draw no row of a very small dataset; an epoch is never empty
        rows = [max(range(len(weights)), key=lambda index: weights[index])]
    source.shuffle(rows)
    return rows


def _group(rows: Sequence[int], lengths: Sequence[int], micro_batch: int, source: random.Random) -> list[int]:
    ordered = sorted(rows, key=lambda index: lengths[index])
    whole = len(ordered) - len(ordered) % micro_batch
    batches = [ordered[start : start + micro_batch] for start in range(0, whole, micro_batch)]
    source.shuffle(batches)
    # An incomplete micro-batch must stay last, or all that follow would be cut at other places
    return [index for batch in [*batches, ordered[whole:]] for index in batch]
