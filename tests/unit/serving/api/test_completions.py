"""Text completions: prompts in their four forms, infill by suffix, streaming."""

import json

import pytest

from serving.engines.base import InfillPrompt, TextPrompt, TokenPrompt


def complete(client, **fields):
    return client.post("/v1/completions", json={"model": "base", "max_tokens": 40, **fields})


def test_an_answer_has_openai_s_shape(client):
    answer = complete(client, prompt="def").json()
    assert answer["object"] == "text_completion" and answer["id"].startswith("cmpl-")
    assert answer["choices"] == [{"index": 0, "text": "base:def", "logprobs": None, "finish_reason": "stop"}]


def test_a_suffix_makes_an_infill_prompt(client, engine):
    complete(client, prompt="a", suffix="z")
    complete(client, prompt="a", suffix="")
    complete(client, prompt="a")
    assert [request.prompt for request in engine.requests] == [
        InfillPrompt("a", "z"),
        InfillPrompt("a", ""),
        TextPrompt("a"),
    ]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (["a", "b"], [TextPrompt("a"), TextPrompt("b")]),
        ([5, 6], [TokenPrompt((5, 6))]),
        ([[5], [6, 7]], [TokenPrompt((5,)), TokenPrompt((6, 7))]),
    ],
)
def test_prompts_come_in_four_forms(client, engine, prompt, expected):
    answer = complete(client, prompt=prompt).json()
    assert [request.prompt for request in engine.requests] == expected
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(expected)))


@pytest.mark.parametrize("prompt", [[], [[]], [1, "a"], [[-1]], ["a"] * 17, None, {"text": "a"}])
def test_other_forms_are_refused(client, engine, prompt):
    assert complete(client, prompt=prompt).status_code == 400
    assert engine.requests == []


def test_a_suffix_with_token_ids_is_refused(client):
    response = complete(client, prompt=[5, 6], suffix="z")
    assert response.status_code == 400 and response.json()["error"]["param"] == "suffix"


def test_each_prompt_may_be_answered_several_times(client, engine):
    answer = complete(client, prompt=["a", "b"], n=2).json()
    assert [choice["text"] for choice in answer["choices"]] == ["base:a", "base:a", "base:b", "base:b"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 2


def test_the_default_length_is_openai_s(client, engine):
    client.post("/v1/completions", json={"model": "base", "prompt": "a"})
    assert engine.requests[0].sampling.max_tokens == 16


def test_a_stream_carries_the_index_of_its_prompt(client):
    response = complete(client, prompt=["a", "b"], stream=True)
    *lines, done = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    texts = {0: "", 1: ""}
    for line in lines:
        [choice] = json.loads(line)["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == {0: "base:a", 1: "base:b"} and done == "[DONE]"


def test_log_probs_carry_offsets(client):
    [choice] = complete(client, prompt="q", logprobs=1).json()["choices"]
    assert choice["logprobs"]["tokens"] == list("base:q")
    assert choice["logprobs"]["text_offset"] == list(range(6))
    assert choice["logprobs"]["top_logprobs"][0] == {"x": -0.5}


def test_a_prompt_that_is_refused_cancels_those_before_it(client, engine):
    response = complete(client, prompt=["short", "x" * 200])
    assert response.status_code == 400 and response.json()["error"]["code"] == "context_length_exceeded"
    assert [generation.cancelled for generation in engine.generations] == [True]
