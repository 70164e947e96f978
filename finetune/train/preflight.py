"""One real pass of the longest rows before the first step: what it takes, and nothing of it left behind."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from finetune.contracts.errors import MachineError
from finetune.plan.changes import changes_that_fit, peak
from finetune.plan.machine import MIB, RESERVE_BYTES, Card
from finetune.plan.memory import CONTEXT, LONGEST_STEP, STATES, Item, Workload, phases
from finetune.plan.report import gib
from finetune.plan.shape import ModelShape
from finetune.train.order import RowOrder

# On a CPU memory is not what a plan is about, so the pass is run only where it costs a run at most 2 % of its time
CPU_PASSES = 50
# Where less fits than the plan said, changes must gain this much of what it counts
PLAN_MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a pass took. peak_bytes is the most that PyTorch held on the GPU, None on a CPU."""

    seconds: float
    peak_bytes: int | None


def is_worth_it(order: RowOrder, device: str) -> bool:
    """Whether the pass is run by itself: always on a GPU, on a CPU where it is a small part of the run."""
    return device == "cuda" or len(order.passes) >= CPU_PASSES


def longest_pass(order: RowOrder, lengths: Sequence[int]) -> int:
    """The number of the pass that holds the most tokens, padding included."""
    return max(range(len(order.passes)), key=lambda number: held_tokens(order, lengths, number))


def held_tokens(order: RowOrder, lengths: Sequence[int], number: int) -> int:
    """Tokens that a pass holds: those of its rows, and where they do not share a sequence the padding too."""
    sizes = [lengths[index] for index in order.passes[number]]
    return sum(sizes) if order.packed else max(sizes) * len(sizes)


def pass_workload(work: Workload, order: RowOrder, lengths: Sequence[int], *, number: int) -> Workload:
    """What a pass asks of the card, given what the whole recipe does."""
    tokens, rows = held_tokens(order, lengths, number), len(order.passes[number])
    if order.packed:
        return replace(work, row_tokens=tokens, micro_batch=1, packed=True)
    return replace(work, row_tokens=tokens // rows, micro_batch=rows, packed=False)


def planned_bytes(shape: ModelShape, work: Workload) -> int:
    """What PyTorch holds at the most in the longest step, by the plan.

    The CUDA context is not in its memory, and neither are states that the driver pages.
    """
    return sum(item.size for item in _longest_step(shape, work) if item.name not in _outside(work))


def states_bytes(shape: ModelShape, work: Workload) -> int:
    """Optimiser states that the first step makes in PyTorch's memory."""
    return sum(item.size for item in _longest_step(shape, work) if item.name == STATES and STATES not in _outside(work))


def _longest_step(shape: ModelShape, work: Workload) -> tuple[Item, ...]:
    return next(phase.items for phase in phases(shape, work) if phase.name == LONGEST_STEP)


def _outside(work: Workload) -> set[str]:
    return {CONTEXT, STATES} if work.optimizer.startswith("paged_") else {CONTEXT}


def rehearse(run: Callable[[], None], *, device: str, states: int) -> Rehearsal:
    """Run a pass; the random state is as before when this returns.

    On a GPU it is run once before, which loads its kernels and makes the gradients that a later pass meets; states
    bytes are held meanwhile in place of the optimiser's. Raises torch.OutOfMemoryError.
    """
    with _random_state_kept():
        if device == "cpu":
            return Rehearsal(_timed(run), None)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.empty(states, dtype=torch.uint8, device=device)
        run()
        seconds = _timed(run)
        del held
        return Rehearsal(seconds, torch.cuda.max_memory_allocated())


def _timed(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


@contextmanager
def _random_state_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def too_small(shape: ModelShape, work: Workload, card: Card, *, pass_tokens: int, cause: str) -> MachineError:
    """The error of a pass that did not fit, with the recipe's changes that make it fit by the plan, cheapest first.

    work is what the whole recipe asks of the card.
    """
    planned = peak(shape, work)
    wanted = int(min(planned, card.usable_bytes) * (1 - PLAN_MARGIN))
    changes = changes_that_fit(shape, work, replace(card, memory_mib=(wanted + RESERVE_BYTES) // MIB))
    sets = " ".join(f"--set {value}" for change in changes for value in change.sets)
    hint = f"By the plan, cheapest first, these fit: {sets}." if sets else "By the plan no change of the recipe fits."
    return MachineError(
        f"The longest pass of this run, {pass_tokens:,} tokens, does not fit on {card.name}: {cause} The card has "
        f"{card.memory_mib / 1024:.2f} GiB, and by the plan the recipe needs {gib(planned):.2f}.",
        f"{hint} Nothing was changed for you; `finetune plan RECIPE` shows what takes how much.",
    )
