"""One answer from a fleet of vLLM servers: from their tokens to the texts that go out."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from finetune.contracts.errors import PlatformError
from serving.engines.base import Delta, FinishReason, Sampling, TokenScore
from serving.engines.fleet import Fleet
from serving.engines.replica import Replica, ReplicaGone
from serving.engines.stream import StopTexts, StreamDecoder, StreamedAnswer
from serving.engines.vllm_wire import TokenLogProbs, UpstreamStep
from serving.errors import EngineError

TORN = EngineError("The vLLM server that wrote this answer failed.", "Ask again.")


class UpstreamWriter:
    """Decodes the tokens of an answer, up to a stop token or a stop text."""

    def __init__(self, sampling: Sampling, *, stop_ids: frozenset[int], decode: Callable[[Sequence[int]], str]) -> None:
        self.begun = False
        self._stop_ids = stop_ids
        self._decode = decode
        self._decoder = StreamDecoder(decode)
        self._stops = StopTexts(sampling.stop)

    def write(self, step: UpstreamStep) -> Delta:
        """What a step adds; a delta with a finish reason is the last, though the server may go on."""
        self.begun = self.begun or bool(step.token_ids or step.finish)
        text, num_tokens = "", 0
        scores: list[TokenScore] = []
        for place, token in enumerate(step.token_ids):
            num_tokens += 1
            if token in self._stop_ids:
                return Delta(text + self._rest()[0], num_tokens, finish_reason="stop", scores=tuple(scores))
            added, met = self._stops.push(self._decoder.push(token))
            text += added
            scores += [self._score(token, step.log_probs[place])] if step.log_probs else []
            if met:
                return Delta(text, num_tokens, finish_reason="stop", scores=tuple(scores))
        reason: FinishReason | None = step.finish
        if reason:
            rest, met = self._rest()
            text, reason = text + rest, "stop" if met else reason
        return Delta(text, num_tokens, finish_reason=reason, scores=tuple(scores))

    def _rest(self) -> tuple[str, bool]:
        """The text that was held back, and whether a stop text is in it, before which it ends."""
        rest, met = self._stops.push(self._decoder.flush())
        return (rest, True) if met else (rest + self._stops.flush(), False)

    def _score(self, token: int, found: TokenLogProbs) -> TokenScore:
        top = tuple((self._decode([other]), value) for other, value in found.top)
        return TokenScore(self._decode([token]), found.chosen, top)


@dataclass(frozen=True)
class UpstreamRequest:
    """name is the adapter's on the servers, None for the base; num_top as in Sampling.num_top_log_probs."""

    name: str | None
    body: dict[str, Any]
    num_top: int | None


async def write_answer(
    fleet: Fleet, request: UpstreamRequest, *, writer: UpstreamWriter, answer: StreamedAnswer
) -> None:
    """Send an answer's deltas, or the error that ends it.

    A server that fails before its first token is left for another; after that nobody could go on with the same words.
    """
    tried: set[Replica] = set()
    try:
        while True:
            replica = fleet.choose(request.name, but=tried)
            tried.add(replica)
            try:
                await _write_from(replica, request, writer=writer, answer=answer)
                return
            except ReplicaGone as error:
                fleet.lost(replica, error)
                if writer.begun:
                    raise TORN from error
    except PlatformError as error:
        answer.send(error)


async def _write_from(
    replica: Replica, request: UpstreamRequest, *, writer: UpstreamWriter, answer: StreamedAnswer
) -> None:
    replica.num_active += 1
    try:
        async with aclosing(replica.stream(request.name, request.body, num_top=request.num_top)) as steps:
            last = await _write_all(steps, writer, answer)
    finally:
        replica.num_active -= 1
    if last is None:
        raise ReplicaGone(replica.address, "a stream without an end")
    # only now: whoever has it cancels this task, which must not stop in the middle of hanging up
    answer.send(last)


async def _write_all(
    steps: AsyncGenerator[UpstreamStep, None], writer: UpstreamWriter, answer: StreamedAnswer
) -> Delta | None:
    """Send all deltas but the last, which is returned; None when the stream has no end."""
    async for step in steps:
        delta = writer.write(step)
        if delta.finish_reason:
            if step.finish:
                # what is read to its end leaves a connection for the next request
                async for _ in steps:
                    pass
            return delta
        answer.send(delta)
    return None
