"""One process' share of a row order: all shares together learn in each step what one process would."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetune.contracts.errors import MachineError
from finetune.render.rows import MASKED, TokenRow
from finetune.train.order import RowOrder
from finetune.train.ranks import Ranks


def share_of(order: RowOrder, ranks: Ranks, *, silent: int) -> RowOrder:
    """The passes of a process: of each step every size-th, from its rank on.

    The last step may not divide. Whoever has a pass less there takes a pass of the row silent, which has no label:
    it adds nothing to loss and gradient, but every process must come to the same number of reductions.
    """
    size = order.passes_per_step
    assert size % ranks.size == 0, f"{size} passes for {ranks.size} processes"
    mine: list[tuple[int, ...]] = []
    for start in range(0, len(order.passes), size):
        step = order.passes[start : start + size]
        missing = -len(step) % ranks.size
        mine += [*step, *[(silent,)] * missing][ranks.rank :: ranks.size]
    return replace(order, passes=tuple(mine), passes_per_step=size // ranks.size)


def with_silent_row(rows: Sequence[TokenRow]) -> tuple[TokenRow, ...]:
    """rows, and after them their shortest once more, without a label."""
    shortest = min(rows, key=lambda row: len(row.input_ids))
    labels = (MASKED,) * len(shortest.input_ids)
    return (*rows, replace(shortest, labels=labels, num_loss_tokens=0, loss_bytes=0))


def check_agreement(weights: Mapping[str, Any], ranks: Ranks, *, step: int) -> None:
    """Raise MachineError where the processes do not hold the same adapter, bit for bit. weights are CPU or GPU tensors.

    Each takes the same mean of gradients, so a difference is a fault of a card, of a link or of a library.
    """
    if ranks.size == 1:
        return
    state = hashlib.sha256()
    for name in sorted(weights):
        state.update(weights[name].detach().float().cpu().contiguous().numpy().tobytes())
    digests = ranks.gather(state.hexdigest())
    others = [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise MachineError(
            f"After step {step} rank {', '.join(others)} holds another adapter than rank 0, so nothing was saved.",
            "Look for a faulty card or link, then go on from the checkpoint before with --resume.",
        )
