"""The LoRA factors of many adapters beside one base, so that each row of a batch may have its own.

PEFT's mixed batch is not safe across threads, its hotswap zeroes adapters whose names are alike, and its load wraps
every module again, which takes twenty times as long as the copy. Here the factors of all adapters lie side by side
along the rank: the output of a linear map gains (x A^T) B, where x A^T is set to 0 at the ranks that are not of the
row's adapter. An adapter comes by a copy into its ranks and goes by giving them back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# Ranks are allocated in steps of this many: growing moves what is there
RANKS_AT_A_TIME = 64


@dataclass(frozen=True, slots=True)
class LinearFactors:
    """What an adapter adds to one linear map: a (rank, in), b (rank, out) with the adapter's scale in it, float32."""

    a: torch.Tensor
    b: torch.Tensor


@dataclass(frozen=True, slots=True)
class Ranks:
    """A stretch of the rank axis, end excluded."""

    start: int
    end: int


@dataclass(slots=True)
class _Stack:
    """All adapters' factors on one map: a (ranks, in), b (ranks, out)."""

    a: torch.Tensor
    b: torch.Tensor

    def grow(self, num_ranks: int) -> None:
        if len(self.a) < num_ranks:
            self.a, self.b = (_with_rows(part, num_ranks) for part in (self.a, self.b))


@dataclass(frozen=True, slots=True)
class _Selection:
    """The ranks that act in the next pass. others is (rows, ranks), true where a rank is not of the row's adapter, None
    where each row takes all of them.
    """

    ranks: Ranks
    others: torch.Tensor | None

    def keep_own(self, low: torch.Tensor) -> torch.Tensor:
        """low (rows, ..., ranks), or (rows x tokens, ranks), with 0 at the ranks that are of other adapters."""
        if (others := self.others) is None:
            return low
        if low.ndim == 2:
            others = others.repeat_interleave(len(low) // len(others), dim=0)
        else:
            others = others.view(len(others), *(1,) * (low.ndim - 2), -1)
        # not a product: another adapter's factors may carry this row beyond what a float holds, and inf * 0 is NaN
        return low.masked_fill(others, 0)


class AdapterSlots:
    """Adapters over the linear maps of one model, by slot. It is used by the thread that owns the model alone."""

    def __init__(self, model: nn.Module) -> None:
        self._maps = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
        self._stacks: dict[str, _Stack] = {}
        self._hooks: list[Any] = []
        self._ranks: dict[str, Ranks] = {}
        self._selection: _Selection | None = None
        self._selected: tuple[str | None, ...] | None = None
        self._device = next(model.parameters()).device

    @property
    def num_ranks(self) -> int:
        """Ranks that memory is held for; it grows with what is loaded at once, and is given back when nothing is."""
        return max((len(stack.a) for stack in self._stacks.values()), default=0)

    @property
    def num_bytes(self) -> int:
        """Memory that is held for all factors. Any thread may ask."""
        # a copy: the model's thread adds maps meanwhile
        return sum(part.nbytes for stack in tuple(self._stacks.values()) for part in (stack.a, stack.b))

    def __contains__(self, slot: str) -> bool:
        return slot in self._ranks

    def size_of(self, name: str) -> tuple[int, int]:
        """(in, out) of the linear map of that full name."""
        part = self._maps[name]
        return part.in_features, part.out_features

    def names(self, targets: Sequence[str]) -> list[str]:
        """Full names of the linear maps whose last part is one of targets."""
        return [name for name in self._maps if name.rpartition(".")[2] in targets]

    @contextmanager
    def before_each_map(self, act: Callable[[], None]) -> Iterator[None]:
        """Call act before each linear map of each pass while the block runs."""
        hooks = [part.register_forward_pre_hook(lambda *_: act()) for part in self._maps.values()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def load(self, slot: str, factors: Mapping[str, LinearFactors]) -> None:
        """Put an adapter's factors, by full names of maps whose sizes they have, into slot, which is free.

        All have the same rank. When memory runs out, nothing has changed but what is held for later.
        """
        assert slot not in self._ranks and factors
        ranks = self._free_ranks(len(next(iter(factors.values())).a))
        held = slice(ranks.start, ranks.end)
        num_ranks = max(self.num_ranks, -(-ranks.end // RANKS_AT_A_TIME) * RANKS_AT_A_TIME)
        try:
            for stack in self._stacks.values():
                stack.grow(num_ranks)
            for name in factors.keys() - self._stacks.keys():
                self._new_stack(name, num_ranks)
            for name, stack in self._stacks.items():
                if name in factors:
                    stack.a[held].copy_(factors[name].a)
                    stack.b[held].copy_(factors[name].b)
                else:
                    # what an adapter before left there must not act for this one
                    stack.b[held].zero_()
        except Exception:
            self._leave_if_empty()
            raise
        self._ranks[slot] = ranks
        self._selected = None

    def free(self, slot: str) -> None:
        """Give a slot's ranks back; with the last one the model is as it was before the first."""
        del self._ranks[slot]
        self._selected = None
        self._leave_if_empty()

    def _leave_if_empty(self) -> None:
        if not self._ranks:
            for hook in self._hooks:
                hook.remove()
            self._hooks, self._stacks, self._selection = [], {}, None

    def select(self, slots: Sequence[str | None]) -> None:
        """Let each row of the next passes have the adapter of its slot, or none."""
        # rows change seldom, and steps are many
        if self._selected == tuple(slots):
            return
        self._selection, self._selected = self._selection_of(slots), tuple(slots)

    def _selection_of(self, slots: Sequence[str | None]) -> _Selection | None:
        held = [self._ranks[slot] for slot in dict.fromkeys(slots) if slot is not None]
        if not held:
            return None
        whole = Ranks(min(one.start for one in held), max(one.end for one in held))
        others = None
        if len(held) > 1 or None in slots:
            rows = torch.ones(len(slots), whole.end - whole.start, dtype=torch.bool)
            for row, slot in enumerate(slots):
                if slot is not None:
                    rows[row, self._ranks[slot].start - whole.start : self._ranks[slot].end - whole.start] = False
            others = rows.to(self._device)
        return _Selection(whole, others)

    def _free_ranks(self, rank: int) -> Ranks:
        """The first stretch of that many ranks between those that are held."""
        start = 0
        for held in sorted(self._ranks.values(), key=lambda ranks: ranks.start):
            if held.start - start >= rank:
                break
            start = held.end
        return Ranks(start, start + rank)

    def _new_stack(self, name: str, num_ranks: int) -> None:
        part = self._maps[name]
        a, b = (
            torch.zeros(num_ranks, size, device=part.weight.device) for size in (part.in_features, part.out_features)
        )
        self._stacks[name] = stack = _Stack(a, b)
        self._hooks.append(part.register_forward_hook(lambda _, given, output: self._add(stack, given[0], output)))

    def _add(self, stack: _Stack, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """output with what the adapters add: (rows, tokens, out), (rows x tokens, out) as mixtures have it, or with an
        axis more between rows and tokens, as latent attention has it.
        """
        selection = self._selection
        if selection is None:
            return output
        ranks = slice(selection.ranks.start, selection.ranks.end)
        low = torch.nn.functional.linear(x.to(stack.a.dtype), stack.a[ranks])
        # summed in float32 as training did, then rounded once
        return (output + selection.keep_own(low) @ stack.b[ranks]).to(output.dtype)


def _with_rows(part: torch.Tensor, num_rows: int) -> torch.Tensor:
    grown = part.new_zeros(num_rows, *part.shape[1:])
    grown[: len(part)] = part
    return grown
