"""What goes to a vLLM server and what comes back."""

import json

import pytest

from serving.engines.base import Sampling
from serving.engines.vllm_wire import (
    TokenLogProbs,
    UpstreamFailure,
    UpstreamStep,
    completion_body,
    read_event,
    read_scores,
    scoring_body,
)


def body(**fields):
    return completion_body([1, 2], Sampling(**fields), stop_ids=frozenset({9, 7}), max_new_tokens=5)


def event(**choice):
    whole = {"index": 0, "text": "", "token_ids": [65], "logprobs": None, "finish_reason": None, **choice}
    return "data: " + json.dumps({"choices": [whole]})


def test_our_stop_tokens_are_the_only_ones_and_nothing_is_left_to_the_base_s_defaults():
    sent = body(temperature=0.7, top_p=0.9, stop=("\n",))
    assert sent["stop_token_ids"] == [7, 9] and sent["ignore_eos"] and "stop" not in sent
    neutral = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert {**sent, **neutral} == sent
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (0.7, 0.9, 5)
    assert "seed" not in sent and "logprobs" not in sent


def test_greedy_and_the_ends_of_what_may_be_asked():
    assert body(temperature=1e-6)["temperature"] == 0.0
    # vLLM refuses 0, which asks for the likeliest token alone
    assert 0 < body(top_p=0.0)["top_p"] < 0.01
    assert body(seed=2**63 + 4)["seed"] == 4 and body(seed=-1)["seed"] == 2**63 - 1
    assert body(num_top_log_probs=0)["logprobs"] == 0


def test_an_event_is_its_tokens():
    assert read_event(event(), num_top=None) == UpstreamStep((65,))
    assert read_event(event(token_ids=[], finish_reason="length"), num_top=3) == UpstreamStep((), finish="length")
    assert read_event(": ping", num_top=None) is None and read_event("data: [DONE]", num_top=None) is None
    assert read_event('data: {"choices": [], "usage": {}}', num_top=None) is None


def test_log_probabilities_come_by_token_the_likeliest_first():
    found = {"token_logprobs": [-3.0], "top_logprobs": [{"token_id:65": -3.0, "token_id:8": -0.1, "token_id:9": -0.4}]}
    step = read_event(event(logprobs=found), num_top=2)
    assert step == UpstreamStep((65,), (TokenLogProbs(-3.0, ((8, -0.1), (9, -0.4))),))
    assert read_event(event(logprobs=found), num_top=0) == UpstreamStep((65,), (TokenLogProbs(-3.0, ()),))


def test_what_is_no_answer_is_told():
    assert isinstance(read_event('data: {"error": {"message": "dead"}}', num_top=None), UpstreamFailure)
    assert isinstance(read_event(event(finish_reason="abort"), num_top=None), UpstreamFailure)
    for line in ("data: {", "data: {}x", 'data: {"choices": [{}]}'):
        with pytest.raises(ValueError):
            read_event(line, num_top=None)


def test_scores_of_a_prompt():
    rows = [None, {"5": {"logprob": -1.5}, "6": {"logprob": -0.1}}, {"7": {"logprob": -2.0}}]
    assert scoring_body([4, 5, 7])["prompt_logprobs"] == 0
    assert read_scores({"choices": [{"prompt_logprobs": rows}]}, [4, 5, 7]) == (-1.5, -2.0)
    for broken in ({}, {"choices": [{"prompt_logprobs": None}]}, {"choices": [{"prompt_logprobs": rows[:2]}]}):
        with pytest.raises(ValueError):
            read_scores(broken, [4, 5, 7])
