"""One answer while it is written: from the logits of each step to the tokens and texts that go out."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from serving.engines.base import Delta, Sampling, TokenScore
from serving.engines.call_reader import CallReader, Parted
from serving.engines.constraint import TokenConstraint
from serving.engines.sampling import make_generator, pick, score
from serving.engines.stream import StopTexts, StreamDecoder


class AnswerWriter:
    """Chooses tokens and decodes them, up to a stop token, a stop text, max_new_tokens, or where nothing can follow."""

    def __init__(
        self,
        sampling: Sampling,
        *,
        stop_ids: frozenset[int],
        max_new_tokens: int,
        decode: Callable[[Sequence[int]], str],
        device: str,
        constraint: TokenConstraint | None = None,
        reader: CallReader | None = None,
    ) -> None:
        """constraint None: any token may come. reader None: no text is a call."""
        self.num_tokens = 0
        self._sampling = sampling
        self._stop_ids = stop_ids
        self._max_new_tokens = max_new_tokens
        self._decode = decode
        self._generator = make_generator(sampling, device)
        self._decoder = StreamDecoder(decode)
        self._stops = StopTexts(sampling.stop)
        self._constraint = constraint
        self._reader = reader

    def write(self, logits: torch.Tensor) -> tuple[int, Delta]:
        """The next token, from logits (vocabulary, float32), and what it adds. Raises EngineError for no numbers."""
        open_to = logits if self._constraint is None else self._constraint.masked(logits)
        token = pick(open_to, self._sampling, generator=self._generator)
        self.num_tokens += 1
        if token in self._stop_ids:
            return token, self._delta(self._rest()[0], "stop")
        whole = self._constraint is not None and self._constraint.accept(token)
        text, met = self._stops.push(self._decoder.push(token))
        reason: Literal["stop", "length"] | None = "stop" if met else None
        if not met and (whole or self.num_tokens == self._max_new_tokens):
            rest, met = self._rest()
            text, reason = text + rest, "stop" if met or whole else "length"
        return token, self._delta(text, reason, scores=self._scores(logits, token))

    def _delta(
        self, text: str, reason: Literal["stop", "length"] | None, *, scores: tuple[TokenScore, ...] = ()
    ) -> Delta:
        if self._reader is None:
            return Delta(text, num_tokens=1, finish_reason=reason, scores=scores)
        parts = [self._reader.push(text)]
        if reason is None and self._reader.satisfied:
            reason = "stop"
        if reason:
            parts.append(self._reader.finish())
        return _calling(parts, reason, scores=scores, num_calls=self._reader.num_calls)

    def _rest(self) -> tuple[str, bool]:
        """The text that was held back, and whether a stop text is in it, before which it ends."""
        rest, met = self._stops.push(self._decoder.flush())
        return (rest, True) if met else (rest + self._stops.flush(), False)

    def _scores(self, logits: torch.Tensor, token: int) -> tuple[TokenScore, ...]:
        wanted = self._sampling.num_top_log_probs
        return () if wanted is None else (score(logits, token, num_top=wanted, decode=self._decode),)


def _calling(
    parts: Sequence[Parted],
    reason: Literal["stop", "length"] | None,
    *,
    scores: tuple[TokenScore, ...],
    num_calls: int,
) -> Delta:
    return Delta(
        "".join(part.text for part in parts),
        num_tokens=1,
        finish_reason="tool_calls" if reason == "stop" and num_calls else reason,
        scores=scores,
        calls=tuple(call for part in parts for call in part.calls),
        num_malformed_calls=sum(part.num_malformed for part in parts),
    )
