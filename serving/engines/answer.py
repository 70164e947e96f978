"""One answer while it is written: from the logits of each step to the tokens and texts that go out."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from serving.engines.base import Delta, Sampling, TokenScore
from serving.engines.sampling import make_generator, pick, score
from serving.engines.stream import StopTexts, StreamDecoder


class AnswerWriter:
    """Chooses tokens and decodes them, up to a stop token, a stop text or max_new_tokens."""

    def __init__(
        self,
        sampling: Sampling,
        *,
        stop_ids: frozenset[int],
        max_new_tokens: int,
        decode: Callable[[Sequence[int]], str],
        device: str,
    ) -> None:
        self.num_tokens = 0
        self._sampling = sampling
        self._stop_ids = stop_ids
        self._max_new_tokens = max_new_tokens
        self._decode = decode
        self._generator = make_generator(sampling, device)
        self._decoder = StreamDecoder(decode)
        self._stops = StopTexts(sampling.stop)

    def write(self, logits: torch.Tensor) -> tuple[int, Delta]:
        """The next token, from logits (vocabulary, float32), and what it adds. Raises EngineError for no numbers."""
        token = pick(logits, self._sampling, generator=self._generator)
        self.num_tokens += 1
        if token in self._stop_ids:
            return token, Delta(self._rest()[0], num_tokens=1, finish_reason="stop")
        text, met = self._stops.push(self._decoder.push(token))
        reason: Literal["stop", "length"] | None = "stop" if met else None
        if not met and self.num_tokens == self._max_new_tokens:
            rest, met = self._rest()
            text, reason = text + rest, "stop" if met else "length"
        return token, Delta(text, num_tokens=1, finish_reason=reason, scores=self._scores(logits, token))

    def _rest(self) -> tuple[str, bool]:
        """The text that was held back, and whether a stop text is in it, before which it ends."""
        rest, met = self._stops.push(self._decoder.flush())
        return (rest, True) if met else (rest + self._stops.flush(), False)

    def _scores(self, logits: torch.Tensor, token: int) -> tuple[TokenScore, ...]:
        wanted = self._sampling.num_top_log_probs
        return () if wanted is None else (score(logits, token, num_top=wanted, decode=self._decode),)
