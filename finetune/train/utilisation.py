"""The operations of each step by the FLOP model of finetune/plan/speed.py, and their share of the measured peak."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from finetune.plan.shape import ModelShape
from finetune.plan.speed import Flops, training_flops
from finetune.render.rows import TokenRow
from finetune.train.order import RowOrder


@dataclass(frozen=True, slots=True)
class Work:
    """Part of a run, padding left out.

    needed: operations of one forward and one backward pass over its rows, the head on learned tokens alone; done: those
    that are carried out, with what is computed again in backward and the head where it is run for nothing.
    """

    tokens: int = 0
    needed: float = 0.0
    done: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.tokens + other.tokens, self.needed + other.needed, self.done + other.done)


RowWork = Callable[[int, int], Work]


def row_work(
    shape: ModelShape, *, targets: tuple[str, ...], rank: int, checkpointing: bool, scores_all: bool
) -> RowWork:
    """A function of a row's tokens and of those that are learned. scores_all: the head runs on all tokens.

    Attention is counted for the row's own length: rows of a packed sequence do not see each other.
    """

    @cache
    def per_token(row_tokens: int, scored_share: float) -> Flops:
        return training_flops(
            shape,
            targets=targets,
            rank=rank,
            row_tokens=row_tokens,
            checkpointing=checkpointing,
            scored_share=scored_share,
        )

    def work(tokens: int, learned: int) -> Work:
        body, whole = per_token(tokens, 0.0), per_token(tokens, 1.0)
        scored = tokens if scores_all else learned
        return Work(
            tokens=tokens,
            needed=tokens * body.needed + learned * (whole.needed - body.needed),
            done=tokens * body.total + scored * (whole.total - body.total),
        )

    return work


def pass_work(rows: Sequence[TokenRow], order: RowOrder, cost: RowWork) -> tuple[Work, ...]:
    """The work of each forward pass and its backward pass."""
    each = [cost(len(row.input_ids), row.num_loss_tokens) for row in rows]
    return tuple(sum((each[index] for index in chosen), Work()) for chosen in order.passes)


def step_work(passes: Sequence[Work], passes_per_step: int) -> tuple[Work, ...]:
    """The work of each optimiser step."""
    starts = range(0, len(passes), passes_per_step)
    return tuple(sum(passes[start : start + passes_per_step], Work()) for start in starts)


@dataclass(frozen=True, slots=True)
class Utilisation:
    """The work of each step of a run, and the peak in 10^12 operations a second that matmul_tflops measured."""

    steps: tuple[Work, ...]
    peak_tflops: float

    def percent(self, first: int, last: int, seconds: float) -> tuple[float, float]:
        """Model and hardware FLOP utilisation of steps first to last (left out), which took seconds."""
        work = sum(self.steps[first:last], Work())
        possible = self.peak_tflops * 1e12 * max(1e-9, seconds)
        return 100 * work.needed / possible, 100 * work.done / possible
