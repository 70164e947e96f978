"""From an accepted request to its answer, whole or as server-sent events, whatever its wire format."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from finetune.contracts.errors import PlatformError
from serving.access.quotas import Quotas
from serving.access.scopes import Caller
from serving.adapters.registry import AdapterRegistry
from serving.adapters.versions import Lease
from serving.adapters.view import View
from serving.api.errors import error_document
from serving.api.measures import MeasuredGeneration, ServiceMeasures
from serving.api.trials import Asked, Trials
from serving.api.wire import PromptTokensDetails, Usage
from serving.engines.base import Delta, Engine, Generation, GenerationRequest, Prompt, Sampling, TokenScore
from serving.engines.calls import ToolCall
from serving.errors import EngineError, HungUpError
from serving.settings import ServerSettings

LOGGER = logging.getLogger("serving")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Service:
    """What every route works with."""

    engine: Engine
    registry: AdapterRegistry
    settings: ServerSettings
    measures: ServiceMeasures
    trials: Trials
    quotas: Quotas

    @property
    def base_name(self) -> str:
        """What requests call the base."""
        return self.registry.base_name

    def view(self, caller: Caller) -> View:
        """What of the adapters exists for caller."""
        return View(self.registry, caller)

    async def open(
        self,
        model: str,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        caller: Caller,
        num_answers: int = 1,
        schema: str | None = None,
    ) -> "OpenAnswer":
        """Accept all prompts of a request, or none, each as often as it is to be answered.

        Answers to one prompt are drawn with seeds that follow each other; schema is a JSON schema that each satisfies.
        Raises RequestError, also for a model that the caller does not see, or BusyError before anything is sent.
        """
        if sampling.max_tokens is not None:
            # It is a bound, and a lower one keeps it: editors name what larger servers allow, whatever they are told
            sampling = replace(sampling, max_tokens=min(sampling.max_tokens, self.settings.max_tokens))
        view = self.view(caller)
        asked = Asked(model, tuple(prompts), sampling, num_answers, schema)
        answer = await self._accept_counted(asked, view)
        trial = view.trial(model)
        if trial:
            self.trials.follow(asked, answer, trial=trial, accept=self._accept)
        return answer

    async def _accept_counted(self, asked: Asked, view: View) -> "OpenAnswer":
        most = asked.sampling.max_tokens or self.settings.max_tokens
        booking = self.quotas.book(view.caller, most * asked.num_answers * len(asked.prompts))
        try:
            answer = await self._accept(asked, view.lease(asked.model))
        except BaseException:
            booking.close()
            raise
        record = view.caller.record
        record.answered, record.prompt_tokens = answer.lease.name, answer.usage().prompt_tokens
        if self.settings.audit_prompts:
            record.prompts = tuple(repr(prompt) for prompt in asked.prompts)
        booking.spend(record.prompt_tokens)

        def settle() -> None:
            record.completion_tokens, record.outcome = answer.num_completion_tokens, answer.outcome
            booking.spend(answer.num_completion_tokens)
            booking.close()

        answer.when_closed.append(settle)
        return answer

    async def _accept(self, asked: Asked, lease: Lease) -> "OpenAnswer":
        asked_at = time.monotonic()
        answer = OpenAnswer(lease, num_answers=asked.num_answers)
        answer.lease.when_ended(answer.fail)
        try:
            for prompt in asked.prompts:
                for number in range(asked.num_answers):
                    sampling = _seeded(asked.sampling, number)
                    request = GenerationRequest(prompt, sampling, answer.lease.slot, asked.schema)
                    generation = await self.engine.generate(request)
                    measured = MeasuredGeneration(generation, self.measures, model=asked.model, asked_at=asked_at)
                    answer.generations.append(measured)
        except BaseException:
            answer.close()
            raise
        self.measures.prompt_tokens.labels(self.measures.alias(asked.model)).inc(answer.usage().prompt_tokens)
        return answer


@dataclass
class OpenAnswer:
    """An accepted request: num_answers generations for each prompt, and the lease under which they run.

    num_ended generations came to their end; failure is the message of an error that ended one. what is in
    when_closed is called once, by close.
    """

    lease: Lease
    num_answers: int = 1
    generations: list[Generation] = field(default_factory=list)
    num_completion_tokens: int = 0
    num_ended: int = 0
    failure: str = ""
    when_closed: list[Callable[[], None]] = field(default_factory=list)

    async def deltas(self) -> AsyncIterator[tuple[int, Delta]]:
        """What comes, with the index of its choice, one choice after the other."""
        try:
            for index, generation in enumerate(self.generations):
                async for delta in generation:
                    self.num_completion_tokens += delta.num_tokens
                    self.num_ended += delta.finish_reason is not None
                    yield index, delta
        except PlatformError as error:
            self.failure = error.message
            raise

    async def whole(self) -> list["Choice"]:
        """Wait for the end of each."""
        choices = [Choice() for _ in self.generations]
        async for index, delta in self.deltas():
            choices[index].add(delta)
        return choices

    def usage(self) -> Usage:
        """Token counts so far."""
        # a prompt counts once, however often it is answered
        firsts = self.generations[:: self.num_answers]
        prompt = sum(generation.num_prompt_tokens for generation in firsts)
        cached = sum(generation.num_cached_tokens for generation in firsts)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=self.num_completion_tokens,
            total_tokens=prompt + self.num_completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
        )

    @property
    def outcome(self) -> str:
        """whole, left where the client did not wait, or the message of the error that ended it."""
        return self.failure or ("whole" if self.num_ended == len(self.generations) else "left")

    def fail(self, error: PlatformError) -> None:
        """End what still runs with error."""
        for generation in self.generations:
            generation.fail(error)

    def close(self) -> None:
        """Cancel what still runs and give the adapter back; calling it again does nothing."""
        for generation in self.generations:
            generation.cancel()
        self.lease.release()
        while self.when_closed:
            self.when_closed.pop(0)()


def _seeded(sampling: Sampling, number: int) -> Sampling:
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + number)


@dataclass
class Choice:
    """The answer to one prompt."""

    text: str = ""
    finish_reason: str | None = None
    scores: list[TokenScore] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def add(self, delta: Delta) -> None:
        """Append what one step brought."""
        self.text += delta.text
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.scores += delta.scores
        for call in delta.calls:
            if call.name is not None:
                self.calls.append(ToolCall(call.name, call.arguments))
            else:
                begun = self.calls[call.index]
                self.calls[call.index] = replace(begun, arguments=begun.arguments + call.arguments)


@asynccontextmanager
async def closing(answer: OpenAnswer) -> AsyncIterator[OpenAnswer]:
    """Close the answer whatever happens in the block."""
    try:
        yield answer
    finally:
        answer.close()


async def unless_gone(request: Request, work: Awaitable[ResultT]) -> ResultT:
    """The result of work; it is cancelled when the client hangs up. Raises HungUpError then, which nobody reads."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise HungUpError("The client hung up.", "")
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """Server-sent events of an answer, ending in [DONE], or in one error event when the engine fails midway.

    chunk turns a prompt's index and a delta into a document; first documents come before any delta, and last before
    the end.
    """

    def __init__(
        self,
        answer: OpenAnswer,
        chunk: Callable[[int, Delta], dict[str, Any]],
        *,
        first: Sequence[dict[str, Any]] = (),
        last: Callable[[], Sequence[dict[str, Any]]] = tuple,
    ) -> None:
        self._answer = answer
        self._chunk = chunk
        self._first = first
        self._last = last
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._events(), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, and close the answer even if the client left before the first byte."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.close()

    async def _events(self) -> AsyncIterator[str]:
        try:
            for document in self._first:
                yield event(document)
            async for index, delta in self._answer.deltas():
                if delta.text or delta.finish_reason or delta.scores or delta.calls:
                    yield event(self._chunk(index, delta))
            for document in self._last():
                yield event(document)
        except PlatformError as error:
            yield event(error_document(error))
        except Exception as error:
            LOGGER.exception("a stream failed")
            yield event(error_document(EngineError("The server failed to answer.", "Its log says why.")))
            raise error
        yield "data: [DONE]\n\n"


def event(document: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"
