"""POST /infill with the bodies that editors' plug-ins send."""

import pytest
from fastapi.testclient import TestClient

from serving.adapters.registry import AdapterRegistry
from serving.app import create_app
from serving.engines.base import InfillPrompt
from tests.unit.serving.conftest import FakeGeneration

# as llama.vim sends it for the text at the cursor
VIM = {
    "id_slot": 0,
    "input_prefix": "def f(",
    "input_suffix": "\n    return x\n",
    "input_extra": [{"text": "A = 1", "time": 12.5, "filename": "a.py"}],
    "prompt": "x",
    "n_predict": 50,
    "stop": [],
    "n_indent": 4,
    "top_k": 40,
    "top_p": 0.90,
    "samplers": ["top_k", "top_p", "infill"],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 1000,
    "response_fields": ["content", "timings/prompt_n", "timings/predicted_ms", "truncated", "tokens_cached", "absent"],
}
# and to warm the server's cache
VIM_WARM = {**VIM, "prompt": "", "n_predict": 0, "samplers": [], "t_max_predict_ms": 1, "response_fields": [""]}
# as llama.vscode sends it
VSCODE = {
    "id_slot": 0,
    "input_prefix": "a",
    "input_suffix": "z",
    "input_extra": [],
    "prompt": "",
    "n_predict": 50,
    "n_cmpl": 3,
    "top_k": 40,
    "top_p": 0.99,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 2500,
}


def test_llama_vim_gets_the_fields_that_it_asks_for(client, engine):
    answer = client.post("/infill", json=VIM).json()
    assert set(answer) == {*VIM["response_fields"]} - {"absent"}
    assert answer["content"].startswith("base:a.py:A = 1;def f([]") and answer["truncated"] is False
    (request,) = engine.requests
    assert request.prompt == InfillPrompt("def f(", "\n    return x\n", context=(("a.py", "A = 1"),), begun="x")
    assert (request.sampling.temperature, request.sampling.max_tokens, request.sampling.top_p) == (0.0, 50, 0.9)


def test_warming_the_cache_reads_the_prompt_and_says_nothing(client, engine):
    assert client.post("/infill", json=VIM_WARM).json() == {}
    answer = client.post("/infill", json={**VIM_WARM, "response_fields": None}).json()
    assert (answer["content"], answer["tokens_predicted"]) == ("", 0) and answer["tokens_evaluated"] > 0
    assert {request.sampling.max_tokens for request in engine.requests} == {1}
    assert all(generation.cancelled for generation in engine.generations)


def test_warming_a_cache_that_is_switched_off_asks_the_model_for_nothing(engine, store, settings):
    off = settings.model_copy(update={"prompt_cache_bytes": 0})
    registry = AdapterRegistry(engine, store, max_adapters=2)
    with TestClient(create_app(engine, store, settings=off, registry=registry), base_url="http://127.0.0.1") as client:
        answer = client.post("/infill", json={**VIM_WARM, "response_fields": None}).json()
    assert (answer["content"], answer["stop"]) == ("", True) and engine.requests == []


def test_what_was_known_of_the_prompt_is_told(client, engine, monkeypatch):
    monkeypatch.setattr(FakeGeneration, "num_cached_tokens", 3)
    answer = client.post("/infill", json={"input_prefix": "abcdef"}).json()
    assert answer["tokens_cached"] == 3 and answer["tokens_evaluated"] == 8
    assert (answer["timings"]["cache_n"], answer["timings"]["prompt_n"]) == (3, 5)


def test_llama_vscode_gets_several_answers_drawn_apart(client, engine):
    answers = client.post("/infill", json=VSCODE).json()
    assert [one["index"] for one in answers] == [0, 1, 2] and all(one["stop"] for one in answers)
    assert all(one["timings"]["predicted_n"] == one["tokens_predicted"] > 0 for one in answers)
    assert {request.sampling.temperature for request in engine.requests} == {0.8}
    client.post("/infill", json={**VSCODE, "seed": 5, "temperature": 1.1})
    assert [request.sampling.seed for request in engine.requests[3:]] == [5, 6, 7]


def test_the_model_is_named_as_elsewhere(client, engine):
    client.post("/v1/load_lora_adapter", json={"lora_name": "shop", "lora_path": "shop-1"})
    answer = client.post("/infill", json={"model": "shop", "input_prefix": "a"}).json()
    assert answer["content"].startswith("slot000000:a") and answer["model"].startswith("shop-")
    assert client.post("/infill", json={"model": "nobody", "input_prefix": "a"}).status_code == 404


def test_time_ends_an_answer_at_a_line_s_end(client, engine):
    body = {"input_prefix": "a\nb" + "c" * 40, "t_max_predict_ms": 0}
    answer = client.post("/infill", json=body).json()
    assert answer["content"] == "base:a\n" and answer["stop_type"] == "none"
    assert engine.generations[0].cancelled
    assert len(client.post("/infill", json={**body, "t_max_predict_ms": 60_000}).json()["content"]) > 40


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", True),
        ("lora", [{"id": 0, "scale": 0.5}]),
        ("n_cmpl", 17),
        ("n_predict", -2),
        ("input_prefix", 5),
        ("input_extra", [{"filename": "a"}]),
        ("temperature", -1),
    ],
)
def test_what_would_change_the_answer_and_is_not_served_is_refused_by_name(client, engine, field, value):
    response = client.post("/infill", json={**VIM, field: value})
    assert response.status_code == 400 and response.json()["error"]["param"].startswith(field)
    assert engine.requests == []
