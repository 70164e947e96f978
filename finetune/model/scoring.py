"""Score rows: the summed negative log-likelihood of what each learns, without forming all logits at once."""

from collections.abc import Sequence
from typing import Any

import torch

# Logits of this many positions exist at once: 248,320 entries of float32 for each would be 0.5 GB.
POSITIONS_PER_TILE = 512
IGNORED = -100


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


def _batch(model: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad_token: int) -> list[float]:
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    head = base.get_output_embeddings()
    inputs, labels, mask = pad_right(rows, pad_token=pad_token, device=head.weight.device)
    # The adapters lie inside the base's own modules, so its backbone may be called past the PeftModel
    hidden = base.base_model(input_ids=inputs, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    learned = targets != IGNORED
    states, wanted = hidden[learned], targets[learned]
    owners = learned.nonzero()[:, 0]
    sums = torch.zeros(len(rows), dtype=torch.float64, device=states.device)
    for start in range(0, len(states), POSITIONS_PER_TILE):
        tile = slice(start, start + POSITIONS_PER_TILE)
        scores = head(states[tile]).float()
        losses = torch.nn.functional.cross_entropy(scores, wanted[tile], reduction="none")
        sums.index_add_(0, owners[tile], losses.double())
    return [float(value) for value in sums]


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
