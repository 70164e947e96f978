"""Score rows: the negative log-likelihood of what each learns, summed or token by token, without all logits at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

# Logits of this many positions exist at once: 248,320 entries of float32 for each would be 0.5 GB.
POSITIONS_PER_TILE = 512
IGNORED = -100
SMALLEST_DEVIATION = 1e-6


def row_losses(
    model: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], *, pad_token: int, batch_rows: int = 8
) -> list[float]:
    """For each (input_ids, labels) row, the sum of -ln p over its labels that are not -100, in the order given.

    model is the bare base or a PeftModel around it; it is put into eval mode meanwhile. Rows of like length share a
    batch, padded on the right, where a causal model never looks back from.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
    losses = [0.0] * len(rows)
    was_training = model.training
    model.eval()
    try:
        # not inference_mode: FSDP keeps what it allocates in its first pass, and training could not use it
        with torch.no_grad():
            for start in range(0, len(order), batch_rows):
                chosen = order[start : start + batch_rows]
                for index, loss in zip(chosen, _batch(model, [rows[i] for i in chosen], pad_token), strict=True):
                    losses[index] = loss
    finally:
        model.train(was_training)
    return losses


@dataclass(frozen=True, slots=True)
class TokenScore:
    """log_prob is ln p of a token. standard_score is how far that lies above the mean ln p of a token drawn from the
    model's own distribution, in its standard deviations: Min-K%++ (Zhang et al. 2024, arXiv 2404.02936, equation 3).
    """

    log_prob: float
    standard_score: float


def token_scores(
    model: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], *, pad_token: int
) -> list[list[TokenScore]]:
    """For each (input_ids, labels) row, a score for each of its labels that is not -100, all rows in one batch."""
    found: list[list[TokenScore]] = [[] for _ in rows]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for logits, wanted, owners in _tiles(model, rows, pad_token):
                log_probs = logits.log_softmax(-1)
                probs = log_probs.exp()
                mean = (probs * log_probs).sum(-1)
                deviation = ((probs * log_probs.square()).sum(-1) - mean.square()).clamp(min=0).sqrt()
                own = log_probs.gather(-1, wanted[:, None])[:, 0]
                # a distribution without spread is sure of one token: nothing stands out of it
                standard = torch.where(deviation > SMALLEST_DEVIATION, (own - mean) / deviation, 0.0)
                for owner, *score in zip(owners.tolist(), own.tolist(), standard.tolist(), strict=True):
                    found[owner].append(TokenScore(*score))
    finally:
        model.train(was_training)
    return found


def _batch(model: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad_token: int) -> list[float]:
    sums = torch.zeros(len(rows), dtype=torch.float64, device=model.get_output_embeddings().weight.device)
    for logits, wanted, owners in _tiles(model, rows, pad_token):
        losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
        sums.index_add_(0, owners, losses.double())
    return [float(value) for value in sums]


def _tiles(
    model: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad_token: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Logits (positions, vocabulary) before each learned label, these labels, and the row of each, tile by tile."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    head = base.get_output_embeddings()
    inputs, labels, mask = pad_right(rows, pad_token=pad_token, device=head.weight.device)
    # The adapters lie inside the base's own modules, so its backbone may be called past the PeftModel
    hidden = base.base_model(input_ids=inputs, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    learned = targets != IGNORED
    states, wanted = hidden[learned], targets[learned]
    owners = learned.nonzero()[:, 0]
    for start in range(0, len(states), POSITIONS_PER_TILE):
        tile = slice(start, start + POSITIONS_PER_TILE)
        yield head(states[tile]).float(), wanted[tile], owners[tile]


def pad_token(tokenizer: Any) -> int:
    """The id that fills short rows; any will do where the mask is 0, so the end token serves without one."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return int(found or 0)


def pad_right(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]], *, pad_token: int, device: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """input_ids, labels and attention mask, each (rows, longest), of rows padded on the right."""
    longest = max(len(ids) for ids, _ in rows)
    inputs = torch.full((len(rows), longest), pad_token, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for place, (ids, wanted) in enumerate(rows):
        inputs[place, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        labels[place, : len(ids)] = torch.tensor(wanted, dtype=torch.long)
        mask[place, : len(ids)] = 1
    return inputs.to(device), labels.to(device), mask.to(device)
