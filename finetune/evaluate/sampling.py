"""Tokens drawn from what a model thinks likely: a row's draws come from its own seed, whatever shares its batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature divides the logits, above 0. top_p: only the likeliest tokens that together reach it may come, 1 all.

    Nucleus sampling as in arXiv 1904.09751, section 3.1; the likeliest token always may come.
    """

    temperature: float = 0.8
    top_p: float = 0.95


class Draws:
    """The draws of some rows: each has a generator of its own, seeded once, on the host."""

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        self._sampling = sampling
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def choose(self, logits: torch.Tensor, rows: Sequence[int]) -> list[int]:
        """A token for each of rows, whose logits are (len(rows), vocabulary); one draw is taken of each."""
        drawn = [torch.rand((), generator=self._generators[row], dtype=torch.float64) for row in rows]
        scaled = logits.double() / self._sampling.temperature
        # stable, so that equally likely tokens keep the order of their ids
        shares, tokens = scaled.softmax(-1).sort(dim=-1, descending=True, stable=True)
        sums = shares.cumsum(-1)
        kept = sums - shares < self._sampling.top_p
        kept[:, 0] = True
        totals = torch.where(kept, sums, 0.0).amax(-1, keepdim=True)
        levels = torch.stack(drawn).to(logits.device).unsqueeze(-1) * totals
        places = torch.searchsorted(sums, levels, right=True).clamp(max=kept.sum(-1, keepdim=True) - 1)
        return [int(token) for token in tokens.gather(-1, places).squeeze(-1)]
