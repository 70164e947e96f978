"""In which order rows are learned: decided before the first step, from the seed alone, so that a resumed run agrees."""

import random
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from finetune.recipe.schema import TrainSection

# Rows are sorted by length inside a window of this many steps: enough to save most padding, still well mixed.
WINDOW_STEPS = 8


@dataclass(frozen=True)
class RowOrder:
    """passes holds the rows of each forward pass, by number; a step takes the next passes_per_step of them.

    packed: the rows of a pass share one sequence; else each has its own, padded to the longest.
    """

    passes: tuple[tuple[int, ...], ...]
    passes_per_step: int
    packed: bool = False

    @property
    def indices(self) -> tuple[int, ...]:
        """The row to learn at each place."""
        return tuple(index for rows in self.passes for index in rows)

    @property
    def num_steps(self) -> int:
        """Optimiser steps; the last may have fewer rows."""
        return -(-len(self.passes) // self.passes_per_step)

    def rows_done(self, steps: int) -> int:
        """Places of the order that were learned after so many steps."""
        return sum(len(rows) for rows in self.passes[: steps * self.passes_per_step])

    def step_tokens(self, lengths: Sequence[int]) -> list[int]:
        """Tokens of each step, padding not counted."""
        size = self.passes_per_step
        return [
            sum(lengths[index] for rows in self.passes[start : start + size] for index in rows)
            for start in range(0, len(self.passes), size)
        ]


def plan_order(
    lengths: Sequence[int], weights: Sequence[float], section: TrainSection, *, pass_tokens: int | None = None
) -> RowOrder:
    """The order for rows of these lengths (tokens), each seen weights[i] times an epoch.

    A weight of 1.5 shows a row once, and half of such rows a second time, another half in each epoch. pass_tokens is
    what a forward pass holds of rows that share its sequence, at least the longest row; with None the micro_batch rows
    of a pass have about the same length. Which passes make a step is random.
    """
    assert lengths and len(lengths) == len(weights)
    mixer = random.Random(f"{section.seed}:batches")  # noqa: S311
    if pass_tokens is None:
        passes = _padded(lengths, weights, section, mixer=mixer)
    else:
        passes = _packed(lengths, weights, section, pass_tokens=pass_tokens, mixer=mixer)
    return RowOrder(tuple(_until_end(passes, lengths, section)), section.accumulation, packed=pass_tokens is not None)


def _until_end(
    passes: Iterator[tuple[int, ...]], lengths: Sequence[int], section: TrainSection
) -> Iterator[tuple[int, ...]]:
    """What the recipe's steps or tokens allow of the passes; the step that reaches the budget is still whole."""
    wanted = None if section.max_steps is None else section.max_steps * section.accumulation
    budget = float("inf") if section.token_budget is None else section.token_budget
    num_tokens = 0
    for place, rows in enumerate(islice(passes, wanted)):
        if num_tokens >= budget and place % section.accumulation == 0:
            return
        num_tokens += sum(lengths[index] for index in rows)
        yield rows


def ends_by(section: TrainSection) -> str:
    """The values of the recipe that end training, "train.max_steps=64"."""
    names = [name for name in ("max_steps", "token_budget") if getattr(section, name) is not None]
    text = ", ".join(f"train.{name}={getattr(section, name):,}" for name in names or ["epochs"])
    if section.stop_after_worse is None:
        return text
    return f"{text}, or after train.stop_after_worse={section.stop_after_worse} looks that are no better"


def _endless(section: TrainSection) -> TrainSection:
    """The section without an end of its rows, where steps or tokens end training instead of epochs."""
    if section.max_steps is None and section.token_budget is None:
        return section
    return section.model_copy(update={"epochs": float("inf")})


def _stream(weights: Sequence[float], section: TrainSection, wanted: int | None) -> Iterator[int]:
    """Rows epoch by epoch: wanted of them, or as many as the recipe's epochs have."""
    given, epoch = 0, 0
    while wanted is None or given < wanted:
        rows = _epoch(weights, random.Random(f"{section.seed}:epoch:{epoch}"))  # noqa: S311
        epoch += 1
        if wanted is None and epoch >= section.epochs:
            wanted = max(1, round((given + len(rows)) * section.epochs / epoch))
        yield from rows if wanted is None else rows[: wanted - given]
        given += len(rows)


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


def _group(
    rows: Sequence[int], lengths: Sequence[int], micro_batch: int, source: random.Random
) -> list[tuple[int, ...]]:
    ordered = sorted(rows, key=lambda index: lengths[index])
    whole = len(ordered) - len(ordered) % micro_batch
    batches = [tuple(ordered[start : start + micro_batch]) for start in range(0, whole, micro_batch)]
    source.shuffle(batches)
    # An incomplete micro-batch must stay last, or all that follow would be cut at other places
    return [*batches, tuple(ordered[whole:])] if whole < len(ordered) else batches


def _padded(
    lengths: Sequence[int], weights: Sequence[float], section: TrainSection, *, mixer: random.Random
) -> Iterator[tuple[int, ...]]:
    rows_per_step = section.micro_batch * section.accumulation
    wanted = None if section.max_steps is None else section.max_steps * rows_per_step
    stream = _stream(weights, _endless(section), wanted)
    while rows := list(islice(stream, rows_per_step * WINDOW_STEPS)):
        yield from _group(rows, lengths, section.micro_batch, mixer)


def _packed(
    lengths: Sequence[int], weights: Sequence[float], section: TrainSection, *, pass_tokens: int, mixer: random.Random
) -> Iterator[tuple[int, ...]]:
    assert max(lengths) <= pass_tokens
    # with a number of steps or tokens the rows have no end; what fills the passes is taken
    stream = _stream(weights, _endless(section), None)
    while rows := list(_take(stream, lengths, section.accumulation * WINDOW_STEPS * pass_tokens)):
        packs = pack(rows, lengths, pass_tokens=pass_tokens)
        mixer.shuffle(packs)
        yield from packs


def _take(stream: Iterator[int], lengths: Sequence[int], num_tokens: int) -> Iterator[int]:
    while num_tokens > 0:
        for index in islice(stream, 1):
            num_tokens -= lengths[index]
            yield index
            break
        else:
            return


def pack(rows: Sequence[int], lengths: Sequence[int], *, pass_tokens: int) -> list[tuple[int, ...]]:
    """All rows, none cut, in groups of at most pass_tokens: the longest first, each where it fits most tightly.

    Best fit decreasing, which needs at most 11/9 of the least number of groups (Johnson, 1973).
    """
    packs: list[list[int]] = []
    free: list[tuple[int, int]] = []
    for index in sorted(rows, key=lambda index: -lengths[index]):
        found = bisect_left(free, (lengths[index], -1))
        if found == len(free):
            free.append((pass_tokens, len(packs)))
            packs.append([])
        room, place = free.pop(found)
        packs[place].append(index)
        insort(free, (room - lengths[index], place))
    return [tuple(rows) for rows in packs]
