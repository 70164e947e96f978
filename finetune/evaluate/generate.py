"""Continuations of several prompts at once: the likeliest, or drawn."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from finetune.evaluate.sampling import Draws, Sampling
from finetune.model.quiet import quiet_libraries
from finetune.model.scoring import pad_token
from finetune.render.rows import Renderer

# a token for each of some rows, by their places among all prompts, from logits (rows, vocabulary)
Choose = Callable[[torch.Tensor, Sequence[int]], list[int]]


def greedy(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stops: frozenset[int],
    max_new_tokens: int,
    pad_token: int,
    batch_rows: int,
) -> list[list[int]]:
    """For each prompt, the most likely tokens one by one, up to a stop (left out) or max_new_tokens.

    Prompts of like length share a batch, padded on the left; the mask keeps padding out of attention and zeroes it
    before recurrent layers, so a row gives what it gives alone.
    """
    return _continue(
        model,
        prompts,
        choose=lambda logits, rows: [int(token) for token in logits.argmax(-1)],
        stops=stops,
        max_new_tokens=max_new_tokens,
        pad_token=pad_token,
        batch_rows=batch_rows,
    )


def fill_in(
    model: Any, prompts: Sequence[Sequence[int]], renderer: Renderer, *, max_new_tokens: int, batch_rows: int
) -> list[str]:
    """What model writes into the gap of each infill prompt, greedily, up to one of the family's infill stops."""
    tokenizer, family = renderer.tokenizer, renderer.family
    answers = greedy(
        model,
        prompts,
        stops=frozenset(map(tokenizer.convert_tokens_to_ids, {*family.infill_stops, family.document_end})),
        max_new_tokens=max_new_tokens,
        pad_token=pad_token(tokenizer),
        batch_rows=batch_rows,
    )
    return [tokenizer.decode(answer, clean_up_tokenization_spaces=False) for answer in answers]


def sampled(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seeds: Sequence[int],
    stops: frozenset[int],
    max_new_tokens: int,
    pad_token: int,
    batch_rows: int,
) -> list[list[int]]:
    """As greedy, but tokens are drawn. A prompt's draws depend on its own seed alone, not on its place or its batch."""
    assert len(seeds) == len(prompts), "a seed for each prompt"
    return _continue(
        model,
        prompts,
        choose=Draws(sampling, seeds).choose,
        stops=stops,
        max_new_tokens=max_new_tokens,
        pad_token=pad_token,
        batch_rows=batch_rows,
    )


def _continue(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    choose: Choose,
    stops: frozenset[int],
    max_new_tokens: int,
    pad_token: int,
    batch_rows: int,
) -> list[list[int]]:
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
                found = batch.run(stops, max_new_tokens, choose=_of_batch(choose, chosen))
                for index, answer in zip(chosen, found, strict=True):
                    answers[index] = answer
    finally:
        model.train(was_training)
    return answers


def _of_batch(choose: Choose, indices: Sequence[int]) -> Choose:
    return lambda logits, rows: choose(logits, [indices[row] for row in rows])


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

    def run(self, stops: frozenset[int], max_new_tokens: int, *, choose: Choose) -> list[list[int]]:
        """The answers, row by row. A row that has ended leaves the batch, so the rest goes on faster."""
        answers: list[list[int]] = [[] for _ in range(len(self._ids))]
        running = list(range(len(answers)))
        while running and max_new_tokens:
            max_new_tokens -= 1
            chosen = choose(self._next_logits(), running)
            going = [place for place, token in enumerate(chosen) if token not in stops]
            for place in going:
                answers[running[place]].append(chosen[place])
            running = [running[place] for place in going]
            if running:
                self._advance(chosen, going)
        return answers

    def _next_logits(self) -> torch.Tensor:
        """(rows, vocabulary) of the tokens that come next."""
        output = self._model(
            input_ids=self._ids,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _advance(self, chosen: list[int], going: list[int]) -> None:
        kept = torch.tensor(going, device=self._mask.device)
        if len(going) < len(chosen):
            self._cache.reorder_cache(kept)
        self._ids = torch.tensor([[chosen[place]] for place in going], device=kept.device)
        self._mask = torch.cat((self._mask[kept], self._mask.new_ones(len(going), 1)), dim=1)
        self._positions = self._positions[kept, -1:] + 1
