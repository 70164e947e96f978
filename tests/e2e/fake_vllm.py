"""A stand-in for a vLLM server: its routes and status codes, answers that tell who wrote them, and faults on demand.

An answer depends on the weights of the adapter and on the prompt's tokens alone, so that a mixed or a torn one shows.
Run: python tests/e2e/fake_vllm.py PORT [TLS]; TLS is a folder with ca.pem and server.pem, and then who connects must
show a certificate that ca.pem signed. LOAD_SECONDS in the environment is how long loads take at first. POST /fault sets
the switches of Faults, GET /seen tells what came.
"""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

BASE_NAME = "served-base"
MAX_MODEL_LEN = 512
# log-probabilities of the probe's tokens, as tests/unit/serving/conftest.py records them
BASE_SCORES, ADAPTER_SCORES = {3: -2.0, 4: -3.0}, {3: -1.0, 4: -1.5}


@dataclass(frozen=True)
class Faults:
    """tear_after: a stream breaks off after so many tokens, None never. ignores: adapters load and do nothing."""

    load_seconds: float = 0.0
    load_fails: bool = False
    ignores: bool = False
    token_seconds: float = 0.0
    tear_after: int | None = None
    sick: bool = False


@dataclass
class State:
    """adapters by name, as the digest of their weights. events are loads and answers in the order of their coming."""

    faults: Faults = field(default_factory=Faults)
    adapters: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    num_cut: int = 0
    num_running: int = 0


def answer_tokens(content: str, prompt: Sequence[int], num_tokens: int) -> list[int]:
    """Letters of the byte tokenizer, a to z."""
    key = f"{content}:{list(prompt)}"
    return [64 + hashlib.sha256(f"{key}:{place}".encode()).digest()[0] % 26 for place in range(num_tokens)]


def content_of(weights: Path) -> str:
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status_code=status)


def create_app() -> FastAPI:
    app, state = FastAPI(), State(Faults(load_seconds=float(os.environ.get("LOAD_SECONDS", "0"))))
    control(app, state)
    adapters(app, state)
    answers(app, state)
    return app


def control(app: FastAPI, state: State) -> None:
    @app.post("/fault")
    async def fault(body: dict[str, Any]) -> dict[str, Any]:
        state.faults = replace(Faults(), **body)
        return {}

    @app.get("/seen")
    async def seen() -> dict[str, Any]:
        return {"events": state.events, "num_cut": state.num_cut, "num_running": state.num_running}

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=503 if state.faults.sick else 200)


def adapters(app: FastAPI, state: State) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        base = {"id": BASE_NAME, "parent": None, "root": "/srv/base", "max_model_len": MAX_MODEL_LEN}
        cards = [{"id": name, "parent": BASE_NAME, "root": "/srv", "max_model_len": None} for name in state.adapters]
        return {"object": "list", "data": [base, *cards]}

    @app.post("/v1/load_lora_adapter")
    async def load(body: dict[str, Any]) -> Response:
        name, folder = body["lora_name"], Path(body["lora_path"])
        await asyncio.sleep(state.faults.load_seconds)
        if name in state.adapters or name == BASE_NAME:
            return error(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
        if not folder.is_dir():
            return error(404, "NotFoundError", f"No adapter found for {folder}")
        if state.faults.load_fails:
            return error(500, "InternalServerError", f"LoRA rank 64 is greater than max_lora_rank 16: {folder}")
        state.adapters[name] = content_of(folder / "adapter_model.safetensors")
        state.events.append(f"load {name}")
        return Response(f"Success: LoRA adapter '{name}' added successfully.")

    @app.post("/v1/unload_lora_adapter")
    async def unload(body: dict[str, Any]) -> Response:
        if state.adapters.pop(body["lora_name"], None) is None:
            return error(404, "NotFoundError", "The lora adapter cannot be found.")
        state.events.append(f"unload {body['lora_name']}")
        return Response("Success: LoRA adapter removed successfully.")


def answers(app: FastAPI, state: State) -> None:
    @app.post("/v1/completions")
    async def complete(body: dict[str, Any], request: Request) -> Response:
        model, prompt = body["model"], body["prompt"]
        if model != BASE_NAME and model not in state.adapters:
            return error(404, "NotFoundError", f"The model `{model}` does not exist.")
        content = "base" if model == BASE_NAME else state.adapters[model]
        if "prompt_logprobs" in body:
            scores = BASE_SCORES if content == "base" or state.faults.ignores else ADAPTER_SCORES
            rows = [{str(token): {"logprob": scores.get(token, -1.0)}} for token in prompt]
            return JSONResponse({"choices": [{"prompt_logprobs": [None, *rows[1:]]}]})
        state.events.append(f"answer {model}")
        tokens = answer_tokens(content, prompt, body["max_tokens"])
        return StreamingResponse(stream(tokens, body, state, request), media_type="text/event-stream")


async def stream(tokens: list[int], body: dict[str, Any], state: State, request: Request) -> AsyncIterator[str]:
    state.num_running += 1
    done = False
    try:
        for place, token in enumerate(tokens):
            if place == state.faults.tear_after:
                done = True
                return
            if await request.is_disconnected():
                return
            last = place == len(tokens) - 1
            log_probs = None
            if "logprobs" in body:
                top = {f"token_id:{token}": -0.5, f"token_id:{token + 1}": -1.5}
                log_probs = {"token_logprobs": [-0.5], "top_logprobs": [top]}
            choice = {
                "index": 0,
                "text": "?",
                "token_ids": [token],
                "logprobs": log_probs,
                "finish_reason": "length" if last else None,
            }
            yield f"data: {json.dumps({'choices': [choice]})}\n\n"
            await asyncio.sleep(state.faults.token_seconds)
        done = True
        yield "data: [DONE]\n\n"
    finally:
        state.num_running -= 1
        state.num_cut += not done


if __name__ == "__main__":
    os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
    options: dict[str, Any] = {"host": "127.0.0.1", "port": int(sys.argv[1]), "log_level": "critical"}
    if sys.argv[2:]:
        tls = Path(sys.argv[2])
        options |= {"ssl_certfile": tls / "server.pem", "ssl_ca_certs": str(tls / "ca.pem"), "ssl_cert_reqs": 2}
    uvicorn.run(create_app(), **options)
