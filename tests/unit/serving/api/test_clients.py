"""The bodies that clients send, field by field as they send them: each is taken, and none of it is lost."""

import json

import pytest

from serving.engines.base import InfillPrompt, TextPrompt

RENDERED = "<|fim_prefix|># Path: cart.py\ndef total(<|fim_suffix|>\n    return total\n<|fim_middle|>"
SENTINELS = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>"]
# Continue's autocomplete with its template for Qwen coders; it names the tokens of an answer that larger models give
CONTINUE_AUTOCOMPLETE = {
    "prompt": RENDERED,
    "model": "base",
    "max_tokens": 4096,
    "temperature": 0.01,
    "stream": True,
    "stop": [
        *SENTINELS,
        "<|file_sep|>",
        "<|im_start|>",
        "<|im_end|>",
        "\n\n",
        "\r\n\r\n",
        "/src/",
        "#- coding: utf-8",
        "```",
    ],
}
# its chat, in agent mode when tools is there
CONTINUE_CHAT = {
    "messages": [
        {"role": "system", "content": "You are in chat mode."},
        {"role": "user", "content": "what is total?"},
        {"role": "assistant", "content": " "},
        {"role": "user", "content": "go on"},
    ],
    "model": "base",
    "max_tokens": 4096,
    "temperature": 0.5,
    "stream": True,
    "stream_options": {"include_usage": True},
}


def chunks(response) -> list[dict]:
    *events, end, _ = response.text.split("\n\n")
    assert response.status_code == 200 and end == "data: [DONE]", response.text
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_continue_s_autocomplete_reaches_the_model_as_it_was_rendered(client, engine, settings):
    found = chunks(client.post("/v1/completions", json=CONTINUE_AUTOCOMPLETE))
    (request,) = engine.requests
    assert request.prompt == TextPrompt(RENDERED)
    assert request.sampling.stop == tuple(CONTINUE_AUTOCOMPLETE["stop"])
    assert (request.sampling.temperature, request.sampling.max_tokens) == (0.01, settings.max_tokens)
    assert "".join(chunk["choices"][0]["text"] for chunk in found) == f"base:{RENDERED}"[: settings.max_tokens]


def test_continue_s_chat_is_answered_with_usage_at_the_end(client, engine):
    *found, last = chunks(client.post("/v1/chat/completions", json=CONTINUE_CHAT))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in found).startswith("base:system=")
    assert last["choices"] == [] and last["usage"]["total_tokens"] > 0
    assert [turn.role for turn in engine.requests[0].prompt.turns] == ["system", "user", "assistant", "user"]


# litellm for openai/base and text-completion-openai/base; it leaves out what its caller did not name
LITELLM = {"model": "base", "messages": [{"role": "user", "content": "def add"}], "temperature": 0, "max_tokens": 8}
LITELLM_INFILL = {"model": "base", "prompt": "def add(", "max_tokens": 8, "temperature": 0, "suffix": ")"}
# aider, which begins with examples and names no bound
AIDER = {
    "model": "base",
    "messages": [
        {"role": "system", "content": "Act as an expert software developer."},
        {"role": "user", "content": "Change the greeting to be more casual"},
        {"role": "assistant", "content": "Ok, I will."},
        {"role": "user", "content": "Make add add"},
    ],
    "temperature": 0,
    "stream": True,
}


@pytest.mark.parametrize("body", [LITELLM, {**LITELLM, "stream": True}, AIDER], ids=["litellm", "streamed", "aider"])
def test_chats_of_litellm_and_aider_are_answered(client, engine, body):
    response = client.post("/v1/chat/completions", json=body)
    if body.get("stream"):
        assert chunks(response)[-1]["choices"][0]["finish_reason"]
    else:
        assert response.json()["choices"][0]["message"]["content"] == "base:use"
    assert engine.requests[0].sampling.temperature == 0


def test_litellm_s_suffix_is_rendered_by_the_server(client, engine):
    assert client.post("/v1/completions", json=LITELLM_INFILL).json()["choices"][0]["finish_reason"] == "length"
    assert engine.requests[0].prompt == InfillPrompt("def add(", ")")
