"""Score given continuation tokens: the check by which an adapter is recognised after loading."""

from collections.abc import Sequence
from typing import Any

import torch


def continuation_log_probs(model: Any, token_ids: Sequence[int], continuation_ids: Sequence[int]) -> tuple[float, ...]:
    """Natural log-probability of each token of continuation_ids, given token_ids and the continuation before it.

    Only the positions that predict the continuation are projected to the vocabulary. Neither list may be empty.
    """
    assert token_ids and continuation_ids
    device = next(model.parameters()).device
    sequence = torch.tensor([[*token_ids, *continuation_ids[:-1]]], device=device)  # (1, prompt + continuation - 1)
    targets = torch.tensor(continuation_ids, device=device)
    was_training = model.training
    model.eval()
    try:
        # not inference_mode: see row_losses
        with torch.no_grad():
            logits = model(input_ids=sequence, logits_to_keep=len(continuation_ids), use_cache=False).logits[0]
    finally:
        model.train(was_training)
    log_probs = torch.log_softmax(logits.float(), dim=-1).gather(1, targets[:, None])[:, 0]
    return tuple(log_probs.tolist())
