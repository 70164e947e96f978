"""Rows that share one sequence, exactly: the tensors that keep them apart, and the proof that a loaded model obeys."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from finetune.families.base import Family
from finetune.families.tokens import Unsupported
from finetune.model.scoring import IGNORED

TokenPair = tuple[Sequence[int], Sequence[int]]
# The proof runs on this many tokens of each of three rows: longer than the convolution, not a multiple of any chunk
PROOF_TOKENS = (45, 70, 101)
PROOF_ROWS = sum(PROOF_TOKENS)
# bfloat16 rounds to 1 part in 256, and other shapes sum in another order: 0.5 % was seen on the embedded base. State or
# attention that leaks from one row into the next gave 7 to 14 % in logits and 18 to 26 % in gradients there.
TOLERANCE = 0.03
# In a deep model rounding grows from layer to layer, so more is allowed where the model itself was seen to round more:
# 5 % in logits, 7 % in gradients on 64 layers of random weights.
ROUNDINGS = 2.0
# Equal shapes sum in one order: on a CPU a row is the same to the bit whatever stands before it. A model whose state
# matters little hides a leak below TOLERANCE, but not below this.
ISOLATION_TOLERANCE = 1e-4


def packed_inputs(rows: Sequence[TokenPair], *, device: Any = "cpu") -> dict[str, Any]:
    """Arguments for a model's forward over (input_ids, labels) rows laid end to end, each (1, tokens of all rows).

    position_ids begin at 0 in each row, which keeps attention apart; seq_idx does so for the convolution and
    cu_seq_lens for the recurrence. The first label of each row is masked: nothing in its row predicts it.
    """
    lengths = [len(ids) for ids, _ in rows]
    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    inputs = [token for ids, _ in rows for token in ids]
    labels = [label for _, wanted in rows for label in (IGNORED, *wanted[1:])]
    positions = [place for length in lengths for place in range(length)]
    owners = [row for row, length in enumerate(lengths) for _ in range(length)]
    return {
        "input_ids": torch.tensor([inputs], dtype=torch.long, device=device),
        "labels": torch.tensor([labels], dtype=torch.long, device=device),
        "position_ids": torch.tensor([positions], dtype=torch.long, device=device),
        "seq_idx": torch.tensor([owners], dtype=torch.int32, device=device),
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }


@dataclass(frozen=True)
class PackingProof:
    """How far packed rows are from separate ones, and how much the last row moves when those before it change.

    Norms of the difference, as shares of the norm: of logits, and of the gradients of all factors. The rounding is what
    separate rows differ by when only the shapes change: tokens are put after them, where a causal model never looks.
    """

    logits: float
    gradients: float
    rounding_logits: float
    rounding_gradients: float
    moved_logits: float
    moved_gradients: float

    @property
    def problem(self) -> str:
        """What is beyond that which rounding explains, "" when nothing is."""
        pairs = ((self.logits, self.rounding_logits), (self.gradients, self.rounding_gradients))
        if any(found > max(TOLERANCE, ROUNDINGS * rounding) for found, rounding in pairs):
            return (
                f"packed rows differ from separate ones by {self.logits:.1%} (logits), {self.gradients:.1%} (gradients)"
            )
        if max(self.moved_logits, self.moved_gradients) > ISOLATION_TOLERANCE:
            return (
                "a packed row depends on the row before it:"
                f" {self.moved_logits:.2%} (logits), {self.moved_gradients:.2%} (gradients)"
            )
        return ""


def packing_problem(model: Any, family: Family, rows: Sequence[TokenPair]) -> str:
    """Why rows may not share a sequence here, "" when they may. model is a PeftModel; rows are some that it will learn.

    Three rows are run apart and together on the loaded model, forward and backward; gradients are cleared afterwards.
    """
    if isinstance(family.packing, Unsupported):
        return family.packing.reason
    return prove_packing(model, proof_rows(rows)).problem


def proof_rows(rows: Sequence[TokenPair]) -> list[TokenPair]:
    """Three rows of the proof's lengths, all tokens learned, from the tokens of the given rows, again where few."""
    tokens = [token for ids, _ in rows[:PROOF_ROWS] for token in ids]
    stream = tokens * (-(-sum(PROOF_TOKENS) // len(tokens)))
    ends = list(accumulate(PROOF_TOKENS))
    parts = [stream[end - size : end] for end, size in zip(ends, PROOF_TOKENS, strict=True)]
    return [(part, part) for part in parts]


def prove_packing(model: Any, rows: Sequence[TokenPair]) -> PackingProof:
    """Compare the rows run apart with the same rows as one sequence, then change all but the last and look at that."""
    *others, last = rows
    silent = [(ids, [IGNORED] * len(ids)) for ids, _ in others]
    changed = [(ids[::-1], wanted) for ids, wanted in silent]
    was_training = model.training
    model.eval()
    try:
        apart = [_run(model, [row]) for row in rows]
        longer = [_run(model, [([*ids, *ids], [*wanted, *[IGNORED] * len(ids)])]) for ids, wanted in rows]
        together, gradients = _run(model, rows)
        before, after = _run(model, [*silent, last]), _run(model, [*changed, last])
    finally:
        model.zero_grad(set_to_none=True)
        model.train(was_training)
    parts, summed = [logits for logits, _ in apart], _summed(apart)
    size = len(last[0])
    return PackingProof(
        logits=_share([together], [torch.cat(parts)]),
        gradients=_share(gradients.values(), summed.values()),
        rounding_logits=_share([found[: len(ids)] for (found, _), (ids, _) in zip(longer, rows, strict=True)], parts),
        rounding_gradients=_share(_summed(longer).values(), summed.values()),
        moved_logits=_share([after[0][-size:]], [before[0][-size:]]),
        moved_gradients=_share(after[1].values(), before[1].values()),
    )


Run = tuple[torch.Tensor, Mapping[str, torch.Tensor]]


def _summed(runs: Sequence[Run]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([found[name] for _, found in runs]).sum(0) for name in runs[0][1]}


def _run(model: Any, rows: Sequence[TokenPair]) -> Run:
    """Logits (tokens, vocabulary) of rows as one sequence, and the gradient of the summed loss by parameter."""
    model.zero_grad(set_to_none=True)
    inputs = packed_inputs(rows, device=next(model.parameters()).device)
    labels = inputs.pop("labels")
    logits = model(**inputs, use_cache=False).logits[0].float()
    loss = torch.nn.functional.cross_entropy(logits[:-1], labels[0, 1:], ignore_index=IGNORED, reduction="sum")
    loss.backward()
    found = {name: part.grad.float().clone() for name, part in model.named_parameters() if part.grad is not None}
    return logits.detach(), found


def _share(found: Iterable[torch.Tensor], expected: Iterable[torch.Tensor]) -> float:
    """The norm of the difference over the norm of what is expected."""
    pairs = list(zip(found, expected, strict=True))
    difference = sum(float((one - other).square().sum()) for one, other in pairs)
    return float((difference / sum(float(other.square().sum()) for _, other in pairs)) ** 0.5)
