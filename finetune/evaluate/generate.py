"""Greedy continuations of several prompts at once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from finetune.model.quiet import quiet_libraries


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
        # one-token steps make the library tell of kernels that would be faster
        with quiet_libraries(), torch.inference_mode():
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
        self._cache: Any = None
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
        """The answers, row by row. A row that has ended leaves the batch, so the rest goes on faster."""
        answers: list[list[int]] = [[] for _ in range(len(self._ids))]
        running = list(range(len(answers)))
        while running and max_new_tokens:
            max_new_tokens -= 1
            chosen = self._next_tokens()
            going = [place for place, token in enumerate(chosen) if token not in stops]
            for place in going:
                answers[running[place]].append(chosen[place])
            running = [running[place] for place in going]
            if running:
                self._advance(chosen, going)
        return answers

    def _next_tokens(self) -> list[int]:
        output = self._model(
            input_ids=self._ids,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        return [int(token) for token in output.logits[:, -1].argmax(-1)]

    def _advance(self, chosen: list[int], going: list[int]) -> None:
        kept = torch.tensor(going, device=self._mask.device)
        if len(going) < len(chosen):
            self._cache.reorder_cache(kept)
        self._ids = torch.tensor([[chosen[place]] for place in going], device=kept.device)
        self._mask = torch.cat((self._mask[kept], self._mask.new_ones(len(going), 1)), dim=1)
        self._positions = self._positions[kept, -1:] + 1
