"""POST /infill, as editors' plug-ins of the llama.cpp family ask for the text at the cursor.

A plug-in sends whatever the server of its day knew, so on this route, unlike on OpenAI's, fields that are not known are
ignored. Those that would change the answer's content and are not served here are refused by name.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from serving.api.auth import CallerOf
from serving.api.service import Service, closing, unless_gone
from serving.api.wire import InfillRequest
from serving.engines.base import Generation, InfillPrompt, Sampling

# What several answers are drawn with when the plug-in names no temperature: alike ones would be of no use
DRAWN_AT = 0.8


@dataclass
class Written:
    """One answer as it grows. first_at is when its first token came, in seconds; stop_type as llama.cpp names it."""

    content: str = ""
    num_tokens: int = 0
    first_at: float | None = None
    stop_type: str = "none"

    def is_over(self, max_seconds: float | None) -> bool:
        """Whether its time is over, which ends it at a line's end at the earliest."""
        if max_seconds is None or self.first_at is None or "\n" not in self.content:
            return False
        return time.monotonic() - self.first_at > max_seconds


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    @router.post("/infill")
    async def infill(body: InfillRequest, request: Request, caller: CallerOf) -> JSONResponse:
        if body.n_predict == 0 and service.settings.prompt_cache_bytes == 0:
            # a plug-in warms a cache that is switched off
            return JSONResponse(_chosen(body, {"content": "", "stop": True, "tokens_predicted": 0}))
        began = time.monotonic()
        model, sampling = body.model or service.base_name, _sampling(body, service)
        answer = await service.open(model, [_prompt(body)], sampling, caller=caller, num_answers=body.n_cmpl or 1)
        async with closing(answer):
            work = asyncio.gather(*(_write(generation, body) for generation in answer.generations))
            written = await unless_gone(request, work)
        documents = [
            _chosen(body, _document(generation, one, name=answer.lease.name, began=began, index=index))
            for index, (generation, one) in enumerate(zip(answer.generations, written, strict=True))
        ]
        return JSONResponse(documents if len(documents) > 1 else documents[0])

    return router


def _prompt(body: InfillRequest) -> InfillPrompt:
    return InfillPrompt(
        body.input_prefix,
        body.input_suffix,
        context=tuple((one.filename, one.text) for one in body.input_extra),
        begun=body.prompt,
    )


def _sampling(body: InfillRequest, service: Service) -> Sampling:
    """Greedy, unless a temperature is named or several answers are wanted."""
    most = service.settings.max_tokens
    unnamed = 0.0 if (body.n_cmpl or 1) == 1 else DRAWN_AT
    return Sampling(
        max_tokens=most if body.n_predict is None or body.n_predict < 0 else min(max(body.n_predict, 1), most),
        temperature=unnamed if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=tuple(body.stop),
    )


async def _write(generation: Generation, body: InfillRequest) -> Written:
    written = Written()
    limit = None if body.t_max_predict_ms is None else body.t_max_predict_ms / 1000
    async for delta in generation:
        if body.n_predict == 0:
            # a plug-in warms the cache: the prompt was read, and that is all
            break
        written.first_at = written.first_at or time.monotonic()
        written.content += delta.text
        written.num_tokens += delta.num_tokens
        written.stop_type = {"stop": "eos", "length": "limit", None: "none"}[delta.finish_reason]
        if written.is_over(limit):
            generation.cancel()
            break
    return written


def _document(generation: Generation, written: Written, *, name: str, began: float, index: int) -> dict[str, Any]:
    first = written.first_at or time.monotonic()
    num_read = generation.num_prompt_tokens - generation.num_cached_tokens
    prompt_ms, predicted_ms = 1000 * (first - began), 1000 * (time.monotonic() - first)
    return {
        "index": index,
        "content": written.content,
        "stop": True,
        "stop_type": written.stop_type,
        "model": name,
        "tokens_predicted": written.num_tokens,
        "tokens_evaluated": generation.num_prompt_tokens,
        "tokens_cached": generation.num_cached_tokens,
        "truncated": generation.truncated,
        "timings": {
            "cache_n": generation.num_cached_tokens,
            "prompt_n": num_read,
            **_rates("prompt", num_read, prompt_ms),
            "predicted_n": written.num_tokens,
            **_rates("predicted", written.num_tokens, predicted_ms),
        },
    }


def _rates(kind: str, count: int, milliseconds: float) -> dict[str, float]:
    return {
        f"{kind}_ms": milliseconds,
        f"{kind}_per_token_ms": milliseconds / max(count, 1),
        f"{kind}_per_second": 1000 * count / max(milliseconds, 1e-3),
    }


def _chosen(body: InfillRequest, document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the plug-in wants, each under the path that it gave; all when it names none."""
    if body.response_fields is None:
        return dict(document)
    found: dict[str, Any] = {}
    for path in body.response_fields:
        value: Any = document
        for part in path.split("/"):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            found[path] = value
    return found
