"""POST /v1/chat/completions."""

import time
import uuid
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serving.api.service import Choice, EventStream, OpenAnswer, Service, closing, unless_gone
from serving.api.wire_chat import ChatRequest, call_body, turns_of
from serving.api.wire_tools import tool_use
from serving.engines.base import ChatPrompt, Delta, TokenScore
from serving.errors import RequestError


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def create(body: ChatRequest, request: Request) -> Response:
        if body.top_logprobs is not None and not body.logprobs:
            raise RequestError("top_logprobs needs logprobs.", "Set logprobs to true.", param="top_logprobs")
        sampling = body.sampling(
            max_tokens=body.max_completion_tokens or body.max_tokens,
            num_top_log_probs=(body.top_logprobs or 0) if body.logprobs else None,
        )
        use = tool_use(body.tools, body.tool_choice, parallel=body.parallel_tool_calls)
        prompt = ChatPrompt(turns_of(body.messages), use)
        schema = body.response_format.text if body.response_format else None
        answer = await service.open(body.model, [prompt], sampling, num_answers=body.num_answers, schema=schema)
        if body.stream:
            return _stream(body, answer)
        async with closing(answer):
            return JSONResponse(await unless_gone(request, _whole(body, answer)))

    return router


async def _whole(body: ChatRequest, answer: OpenAnswer) -> dict[str, Any]:
    choices = await answer.whole()
    return {
        **_head(body, answer, kind="chat.completion"),
        "choices": [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": _log_probs(choice.scores) if body.logprobs else None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices)
        ],
        "usage": answer.usage().body(),
    }


def _message(choice: Choice) -> dict[str, Any]:
    message = {"role": "assistant", "content": choice.text, "refusal": None}
    if not choice.calls:
        return message
    calls = [call_body(call.name, call.arguments) for call in choice.calls]
    return {**message, "content": choice.text or None, "tool_calls": calls}


def _pieces(delta: Delta) -> dict[str, Any]:
    """What a chunk says of a step: text and pieces of calls."""
    content = {"content": delta.text} if delta.text or delta.scores else {}
    calls = [{"index": call.index, **call_body(call.name, call.arguments)} for call in delta.calls]
    return {**content, **({"tool_calls": calls} if calls else {})}


def _stream(body: ChatRequest, answer: OpenAnswer) -> EventStream:
    head = _head(body, answer, kind="chat.completion.chunk")
    nothing_yet = {"usage": None} if body.wants_usage else {}

    def document(
        index: int, delta: dict[str, Any], *, reason: str | None = None, log_probs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": log_probs, "finish_reason": reason}
        return {**head, "choices": [choice], **nothing_yet}

    def chunk(index: int, delta: Delta) -> dict[str, Any]:
        log_probs = _log_probs(delta.scores) if body.logprobs else None
        return document(index, _pieces(delta), reason=delta.finish_reason, log_probs=log_probs)

    def last() -> list[dict[str, Any]]:
        return [{**head, "choices": [], "usage": answer.usage().body()}] if body.wants_usage else []

    begun = [document(index, {"role": "assistant", "content": ""}) for index in range(body.num_answers)]
    return EventStream(answer, chunk, first=begun, last=last)


def _head(body: ChatRequest, answer: OpenAnswer, *, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": body.model,
        "system_fingerprint": answer.lease.name,
    }


def _log_probs(scores: tuple[TokenScore, ...] | list[TokenScore]) -> dict[str, Any]:
    rows = [
        {**_row(score.text, score.log_prob), "top_logprobs": [_row(text, value) for text, value in score.top]}
        for score in scores
    ]
    return {"content": rows, "refusal": None}


def _row(text: str, log_prob: float) -> dict[str, Any]:
    return {"token": text, "logprob": log_prob, "bytes": list(text.encode())}
