"""Chat completions over a fake engine: shapes, streaming, what is refused."""

import json

import pytest

from tests.unit.serving.conftest import FakeGeneration

QUESTION = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}


def events(response) -> list[str]:
    return [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]


def test_an_answer_has_openai_s_shape(client):
    answer = client.post("/v1/chat/completions", json=QUESTION).json()
    assert answer["object"] == "chat.completion" and answer["model"] == "base"
    assert answer["id"].startswith("chatcmpl-") and answer["system_fingerprint"].startswith("base-")
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "base:user=hi", "refusal": None}
    assert choice["finish_reason"] == "stop" and choice["logprobs"] is None
    counts = {"prompt_tokens": 7, "completion_tokens": 13, "total_tokens": 20}
    assert answer["usage"] == {**counts, "prompt_tokens_details": {"cached_tokens": 0}}


def test_a_stream_ends_in_usage_and_done(client):
    body = {**QUESTION, "stream": True, "stream_options": {"include_usage": True}}
    response = client.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *lines, done = events(response)
    assert done == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
    assert text == "base:user=hi"
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]][-2:] == [None, "stop"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 20
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_usage_tells_what_was_known_of_the_prompt(client, monkeypatch):
    monkeypatch.setattr(FakeGeneration, "num_cached_tokens", 5)
    whole = client.post("/v1/chat/completions", json={**QUESTION, "n": 3}).json()["usage"]
    body = {**QUESTION, "stream": True, "stream_options": {"include_usage": True}}
    last = json.loads(events(client.post("/v1/chat/completions", json=body))[-2])["usage"]
    assert whole["prompt_tokens_details"] == last["prompt_tokens_details"] == {"cached_tokens": 5}


def test_a_stream_without_the_option_has_no_usage(client):
    *lines, _ = events(client.post("/v1/chat/completions", json={**QUESTION, "stream": True}))
    assert not any("usage" in json.loads(line) for line in lines)


def test_a_stream_that_breaks_ends_in_an_error_event(client, engine):
    engine.fail = True
    *_, error, done = events(client.post("/v1/chat/completions", json={**QUESTION, "stream": True}))
    assert json.loads(error)["error"]["type"] == "server_error" and done == "[DONE]"


def test_log_probs_come_with_the_likeliest(client):
    body = {**QUESTION, "logprobs": True, "top_logprobs": 2, "max_tokens": 2}
    [choice] = client.post("/v1/chat/completions", json=body).json()["choices"]
    first = choice["logprobs"]["content"][0]
    assert first["token"] == "b" and first["logprob"] == -0.5 and first["bytes"] == [98]
    assert [row["token"] for row in first["top_logprobs"]] == ["x", "y"]
    assert choice["finish_reason"] == "length"


def test_what_was_asked_reaches_the_engine(client, engine):
    body = {**QUESTION, "temperature": 0, "top_p": 0.5, "seed": 7, "stop": "END", "max_completion_tokens": 5}
    client.post("/v1/chat/completions", json={**body, "max_tokens": 9})
    sampling = engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0, 0.5, 7)
    assert (sampling.stop, sampling.max_tokens, sampling.num_top_log_probs) == (("END",), 5, None)


def test_an_answer_ends_at_the_server_s_bound_where_a_client_names_a_higher_one(client, engine, settings):
    messages = [{"role": "user", "content": "a" * 100}]
    answer = client.post(
        "/v1/chat/completions", json={"model": "base", "messages": messages, "max_tokens": 4096}
    ).json()
    assert engine.requests[0].sampling.max_tokens == settings.max_tokens
    assert answer["choices"][0]["finish_reason"] == "length"


def test_messages_may_be_parts_and_developer_means_system(client, engine):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be short"}, {"role": "user", "content": parts}]
    client.post("/v1/chat/completions", json={"model": "base", "messages": messages})
    assert [(turn.role, turn.content) for turn in engine.requests[0].prompt.turns] == [
        ("system", "be short"),
        ("user", "ab"),
    ]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 17}, "n"),
        ({"n": 0}, "n"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_not_served_is_refused_by_name(client, engine, change, param):
    response = client.post("/v1/chat/completions", json={**QUESTION, **change})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param and error["type"] == "invalid_request_error"
    assert engine.requests == []


def test_what_asks_for_nothing_is_taken(client):
    neutral = {"n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "tools": [], "user": "u"}
    body = {**QUESTION, **neutral, "response_format": {"type": "text"}, "stop": None, "metadata": {"a": "b"}}
    assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_an_unknown_model_is_not_found(client):
    response = client.post("/v1/chat/completions", json={**QUESTION, "model": "gpt"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found" and response.json()["error"]["param"] == "model"


def test_a_full_queue_says_when_to_come_back(client, engine):
    engine.busy = True
    response = client.post("/v1/chat/completions", json={**QUESTION, "stream": True})
    assert response.status_code == 429 and response.headers["retry-after"] == "7"
    assert response.json()["error"]["type"] == "rate_limit_error"


def test_a_question_may_be_answered_several_times(client, engine):
    answer = client.post("/v1/chat/completions", json={**QUESTION, "n": 3, "seed": 5, "max_tokens": 4}).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [request.sampling.seed for request in engine.requests] == [5, 6, 7]
    alone = client.post("/v1/chat/completions", json={**QUESTION, "max_tokens": 4}).json()["usage"]
    assert answer["usage"]["prompt_tokens"] == alone["prompt_tokens"]
    assert answer["usage"]["completion_tokens"] == 3 * alone["completion_tokens"]
    assert engine.requests[3].sampling.seed is None


def test_a_stream_of_several_answers_says_which_is_which(client):
    body = {**QUESTION, "n": 2, "stream": True, "max_tokens": 3}
    *lines, _ = events(client.post("/v1/chat/completions", json=body))
    texts = {0: "", 1: ""}
    ended = []
    for line in lines:
        (choice,) = json.loads(line)["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        ended += [choice["index"]] if choice["finish_reason"] else []
    assert ended == [0, 1] and texts[0] == texts[1] != ""
