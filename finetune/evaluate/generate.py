"""Greedy continuations of several prompts at once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


def greedy(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stops: frozenset[int],
    max_new_tokens: int,
    pad_token: int,
    batch_rows: int,
    told: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """For each prompt, the most likely tokens one by one, up to a stop (left out) or max_new_tokens.

    Prompts of like length share a batch, padded on the left; the mask keeps padding out of attention and zeroes it
    before recurrent layers, so a row gives what it gives alone. told is called with each batch's number of rows.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(order), batch_rows):
                chosen = order[start : start + batch_rows]
                batch = _Batch(model, [prompts[index] for index in chosen], pad_token=pad_token)
                for index, answer in zip(chosen, batch.run(stops, max_new_tokens), strict=True):
                    answers[index] = answer
                told(len(chosen))
    finally:
        model.train(was_training)
    return answers


class _Batch:
    """Prompts that are continued together. Tensors are (rows, tokens)."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], *, pad_token: int) -> None:
        self._model = model
        longest = max(map(len, prompts))
        device = model.get_input_embeddings().weight.device
        gaps = [longest - len(prompt) for prompt in prompts]
        ids = [[pad_token] * gap + list(prompt) for gap, prompt in zip(gaps, prompts, strict=True)]
        mask = [[0] * gap + [1] * len(prompt) for gap, prompt in zip(gaps, prompts, strict=True)]
        self._ids = torch.tensor(ids, device=device)
        self._mask = torch.tensor(mask, device=device)
        # a row's own count of tokens, so that its positions are those it has alone
        self._positions = (self._mask.cumsum(-1) - 1).clamp(min=0)

    def run(self, stops: frozenset[int], max_new_tokens: int) -> list[list[int]]:
        """The answers, row by row."""
        answers: list[list[int]] = [[] for _ in range(len(self._ids))]
        running = set(range(len(answers)))
        cache = None
        for _ in range(max_new_tokens):
            output = self._model(
                input_ids=self._ids,
                attention_mask=self._mask,
                position_ids=self._positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            chosen = output.logits[:, -1].argmax(-1)
            for row, token in enumerate(chosen.tolist()):
                if row not in running:
                    continue
                if token in stops:
                    running.discard(row)
                else:
                    answers[row].append(token)
            if not running:
                break
            self._ids = chosen[:, None]
            self._mask = torch.cat((self._mask, self._mask.new_ones(len(chosen), 1)), dim=1)
            self._positions = self._positions[:, -1:] + 1
        return answers
