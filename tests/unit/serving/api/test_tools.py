"""Tools and JSON answers over a fake engine: what reaches it, the shapes of its calls, and what is refused."""

import json

import pytest

from serving.engines.base import ChatTurn, Delta
from serving.engines.calls import CallDelta, Tool, ToolCall, ToolUse

URL = "/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ = {"type": "function", "function": {"name": "read", "description": "Reads.", "parameters": SCHEMA}}
STOP = {"type": "function", "function": {"name": "stop"}}
QUESTION = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "tools": [READ, STOP]}
NO_PARAMETERS = '{"type": "object", "properties": {}, "additionalProperties": false}'
TOOLS = (Tool("read", "Reads.", json.dumps(SCHEMA)), Tool("stop", "", NO_PARAMETERS))
CALLING = [
    Delta("Look.", num_tokens=1),
    Delta("", num_tokens=1, calls=(CallDelta(0, "read"), CallDelta(0, arguments='{"path": '))),
    Delta("", num_tokens=1, calls=(CallDelta(0, arguments='"a"}'), CallDelta(1, "stop"), CallDelta(1, arguments="{}"))),
    Delta("", num_tokens=1, finish_reason="tool_calls"),
]


def error_of(response) -> dict[str, str]:
    assert response.status_code == 400, response.text
    return response.json()["error"]


@pytest.fixture
def roomy(make_client):
    """A client whose bodies may be large."""
    return make_client(max_body_bytes=1 << 20)


def named(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("change", "use"),
    [
        ({}, ToolUse(TOOLS)),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, ToolUse(TOOLS, parallel=False)),
        ({"tool_choice": "required"}, ToolUse(TOOLS, must_call=True)),
        ({"tool_choice": named("stop")}, ToolUse(TOOLS, must_call=True, name="stop")),
        ({"tool_choice": "none"}, None),
        ({"tools": []}, None),
    ],
)
def test_what_may_be_called_reaches_the_engine(client, engine, change, use):
    assert client.post(URL, json={**QUESTION, **change}).status_code == 200
    assert engine.requests[0].prompt.use == use


@pytest.mark.parametrize(
    ("given", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, {"type": "object"}),
    ],
)
def test_a_schema_reaches_the_engine(client, engine, given, schema):
    body = {**QUESTION, "tools": None, "response_format": given}
    assert client.post(URL, json=body).status_code == 200
    assert (found := engine.requests[0].schema) == schema or json.loads(found) == schema


def test_an_answer_holds_calls(client, engine):
    engine.script = CALLING
    [choice] = client.post(URL, json=QUESTION).json()["choices"]
    first, second = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] == "Look."
    assert first["type"] == "function" and first["id"].startswith("call_") and first["id"] != second["id"]
    assert first["function"] == {"name": "read", "arguments": '{"path": "a"}'}
    assert second["function"] == {"name": "stop", "arguments": "{}"}


def test_an_answer_of_calls_alone_has_no_content(client, engine):
    engine.script = CALLING[1:]
    assert client.post(URL, json=QUESTION).json()["choices"][0]["message"]["content"] is None
    engine.script = None
    assert "tool_calls" not in client.post(URL, json=QUESTION).json()["choices"][0]["message"]


def test_a_stream_brings_calls_in_pieces(client, engine):
    engine.script = CALLING
    lines = client.post(URL, json={**QUESTION, "stream": True}).text.split("\n\n")
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines if "{" in line]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", [])]
    assert [piece["index"] for piece in pieces] == [0, 0, 0, 1, 1]
    assert [piece["function"].get("name") for piece in pieces] == ["read", None, None, "stop", None]
    assert [piece.get("type") for piece in pieces] == ["function", None, None, "function", None]
    assert len({piece["id"] for piece in pieces if "id" in piece}) == 2
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"path": "a"}{}'
    assert '"finish_reason":"tool_calls"' in lines[-3]


def test_a_call_that_is_none_is_text_and_counted(client, engine):
    engine.script = [
        Delta("no call", num_tokens=1, num_malformed_calls=2),
        Delta("", num_tokens=1, finish_reason="stop"),
    ]
    assert client.post(URL, json=QUESTION).json()["choices"][0]["message"]["content"] == "no call"
    assert 'finetune_malformed_calls_total{alias="base"} 2.0' in client.get("/metrics").text


def call(call_id: str, name: str = "read", arguments: str = '{"path": "a"}') -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def said(*calls: dict[str, object], content: str | None = None) -> dict[str, object]:
    """As a client sends back an answer of ours or of others."""
    nothing = {"refusal": None, "annotations": [], "audio": None, "function_call": None}
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **nothing}


def told(call_id: str, content: str) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_a_conversation_may_hold_calls_and_answers_in_any_order(client, engine):
    user = QUESTION["messages"][0]
    messages = [user, said(call("1"), call("2", arguments=""), content="So."), told("2", "two"), told("1", "one"), user]
    assert client.post(URL, json={**QUESTION, "messages": messages}).status_code == 200
    assert engine.requests[0].prompt.turns == (
        ChatTurn("user", "hi"),
        ChatTurn("assistant", "So.", (ToolCall("read", '{"path": "a"}'), ToolCall("read", "{}"))),
        ChatTurn("tool", "one"),
        ChatTurn("tool", "two"),
        ChatTurn("user", "hi"),
    )


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([told("1", "x")], "messages.0.tool_call_id"),
        ([said(call("1")), told("2", "x")], "messages.1.tool_call_id"),
        ([said(call("1")), told("1", "x"), told("1", "x")], "messages.2.tool_call_id"),
        ([said(call("1")), {"role": "tool", "content": "x"}], "messages.1.tool_call_id"),
        ([{"role": "user", "content": "x", "tool_call_id": "1"}], "messages.0.tool_call_id"),
        ([{"role": "user", "content": "x", "tool_calls": [call("1")]}], "messages.0.tool_calls"),
        ([{"role": "user"}], "messages.0.content"),
        ([said(content=None)], "messages.0.content"),
        ([said(call("1", arguments="[1]"))], "messages.0.tool_calls.0"),
        ([said(call("1", arguments="{"))], "messages.0.tool_calls.0"),
        ([said(call("1", arguments='{"a": NaN}'))], "messages.0.tool_calls.0"),
        ([said(call("1", arguments='{"a": "\\ud800"}'))], "messages.0.tool_calls.0"),
        ([said(call("1", arguments="[" * 100_000))], "messages.0.tool_calls.0"),
        ([said(call("1", name="a b"))], "messages.0.tool_calls.0.function.name"),
    ],
)
def test_a_conversation_that_does_not_hang_together_is_refused(roomy, engine, messages, param):
    assert error_of(roomy.post(URL, json={**QUESTION, "messages": messages}))["param"] == param
    assert not engine.requests


DEEP: dict[str, object] = {}
for _ in range(40):
    DEEP = {"items": DEEP}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [READ, READ]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "x" * 65}}]}, "tools.0.function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": DEEP}}]},
            "tools.0.function.parameters",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a", "code": "x"}}]}, "tools.0.function.code"),
        ({"tools": [named(f"a{number}") for number in range(129)]}, "tools"),
        ({"tool_choice": named("absent")}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice.literal['none','auto','required']"),
        ({"tools": None, "tool_choice": "required"}, "tool_choice"),
        ({"tools": None, "tool_choice": named("read")}, "tool_choice"),
        ({"functions": []}, "functions"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": DEEP}}},
            "response_format.json_schema.json_schema.schema",
        ),
        ({"response_format": {"type": "grammar", "grammar": "x"}}, "response_format"),
    ],
)
def test_what_is_not_served_is_refused_by_name(roomy, engine, change, param):
    assert error_of(roomy.post(URL, json={**QUESTION, **change}))["param"] == param
    assert not engine.requests


def test_a_schema_has_a_largest_size(roomy):
    large = {"type": "object", "description": "x" * 70_000}
    body = {**QUESTION, "tools": [{"type": "function", "function": {"name": "a", "parameters": large}}]}
    error = error_of(roomy.post(URL, json=body))
    assert error["param"] == "tools.0.function.parameters" and "65536" in error["message"]


@pytest.mark.parametrize("field", ["tools", "tool_choice", "response_format", "guided_json", "parallel_tool_calls"])
def test_completions_know_no_tools_and_no_schemas(client, field):
    body = {"model": "base", "prompt": "x", field: None}
    error = error_of(client.post("/v1/completions", json=body))
    assert error["param"] == field and error["code"] == "unknown_parameter"
