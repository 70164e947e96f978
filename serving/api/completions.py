"""POST /v1/completions; with `suffix` the answer is what belongs between prompt and suffix."""

import time
import uuid
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serving.api.auth import CallerOf
from serving.api.service import Choice, EventStream, OpenAnswer, Service, closing, unless_gone
from serving.api.wire import CompletionRequest
from serving.engines.base import Delta, InfillPrompt, Prompt, TextPrompt, TokenPrompt, TokenScore
from serving.errors import RequestError

# OpenAI's own default for this route
DEFAULT_MAX_TOKENS = 16


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    @router.post("/v1/completions")
    async def create(body: CompletionRequest, request: Request, caller: CallerOf) -> Response:
        max_tokens = body.max_tokens or min(DEFAULT_MAX_TOKENS, service.settings.max_tokens)
        sampling = body.sampling(max_tokens=max_tokens, num_top_log_probs=body.logprobs)
        prompts = prompts_of(body)
        answer = await service.open(body.model, prompts, sampling, caller=caller, num_answers=body.num_answers)
        if body.stream:
            return _stream(body, answer)
        async with closing(answer):
            return JSONResponse(await unless_gone(request, _whole(body, answer)))

    return router


def prompts_of(body: CompletionRequest) -> list[Prompt]:
    """One prompt for each answer wanted. Raises RequestError for a suffix beside anything but texts."""
    given = body.prompt
    rows: list[Any] = [given] if isinstance(given, str) or isinstance(given[0], int) else list(given)
    if body.suffix is None:
        return [TextPrompt(row) if isinstance(row, str) else TokenPrompt(tuple(row)) for row in rows]
    if not all(isinstance(row, str) for row in rows):
        raise RequestError("suffix goes with prompts of text.", "Send the prompt as text.", param="suffix")
    return [InfillPrompt(prefix=row, suffix=body.suffix) for row in rows]


async def _whole(body: CompletionRequest, answer: OpenAnswer) -> dict[str, Any]:
    choices = await answer.whole()
    return {
        **_head(body, answer),
        "choices": [_choice(body, index, choice) for index, choice in enumerate(choices)],
        "usage": answer.usage().body(),
    }


def _stream(body: CompletionRequest, answer: OpenAnswer) -> EventStream:
    head = _head(body, answer)
    nothing_yet = {"usage": None} if body.wants_usage else {}

    def chunk(index: int, delta: Delta) -> dict[str, Any]:
        step = Choice(delta.text, delta.finish_reason, list(delta.scores))
        return {**head, "choices": [_choice(body, index, step)], **nothing_yet}

    def last() -> list[dict[str, Any]]:
        return [{**head, "choices": [], "usage": answer.usage().body()}] if body.wants_usage else []

    return EventStream(answer, chunk, last=last)


def _choice(body: CompletionRequest, index: int, choice: Choice) -> dict[str, Any]:
    return {
        "index": index,
        "text": choice.text,
        "logprobs": None if body.logprobs is None else _log_probs(choice.scores),
        "finish_reason": choice.finish_reason,
    }


def _head(body: CompletionRequest, answer: OpenAnswer) -> dict[str, Any]:
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": body.model,
        "system_fingerprint": answer.lease.name,
    }


def _log_probs(scores: list[TokenScore]) -> dict[str, Any]:
    offsets, place = [], 0
    for score in scores:
        offsets.append(place)
        place += len(score.text)
    return {
        "tokens": [score.text for score in scores],
        "token_logprobs": [score.log_prob for score in scores],
        "top_logprobs": [dict(score.top) for score in scores],
        "text_offset": offsets,
    }
