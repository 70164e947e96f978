"""Every field of a body has an end: its text, its list, its number."""

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from serving.api import wire, wire_chat, wire_tools

BODIES = [
    value
    for module in (wire, wire_chat, wire_tools)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, wire.Received) and value is not wire.Received
]
ENDS = {
    "string": "maxLength",
    "array": "maxItems",
    "object": "maxProperties",
    "integer": "maximum",
    "number": "maximum",
}
# Whatever a schema with one of these allows has an end
ENOUGH = {"enum", "const", "pattern", "exclusiveMaximum"}
# How long an answer may take, which max_tokens ends anyway; and JSON schemas, whose size and depth a validator bounds
UNBOUNDED = {"InfillRequest.t_max_predict_ms", "JsonSchema.schema", "Function.parameters"}


def endless(schema: dict[str, Any], place: str) -> list[str]:
    """Places in a schema where a value may be as large as the client likes."""
    if 0 in (schema.get("maxItems"), schema.get("maxProperties")):
        return []
    found = []
    kind = schema.get("type", "")
    if kind in ENDS and "properties" not in schema and not {*ENOUGH, ENDS[kind]} & schema.keys():
        found.append(place)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += endless(schema[key], place)
    for one in schema.get("anyOf", ()):
        found += endless(one, place)
    for name, one in schema.get("properties", {}).items():
        found += endless(one, f"{place}.{name}")
    return found


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_every_field_has_an_end(body):
    schema = TypeAdapter(body).json_schema()
    assert set(endless(schema, body.__name__)) <= UNBOUNDED


def test_the_search_for_endless_fields_finds_them():
    class Open(BaseModel):
        text: str
        rows: list[str]
        number: int | None = None
        any_of: dict[str, Any] | None = None

    assert len(set(endless(Open.model_json_schema(), "Open"))) == 4


MESSAGE = {"role": "user", "content": "q"}
CHAT = {"model": "base", "messages": [MESSAGE]}
COMPLETION = {"model": "base", "prompt": "q"}
LONG = "x" * (wire.MAX_TEXT + 1)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (wire_chat.ChatRequest, {**CHAT, "model": "x" * (wire.MAX_NAME + 1)}),
        (wire_chat.ChatRequest, {**CHAT, "messages": [MESSAGE] * 257}),
        (wire_chat.ChatRequest, {**CHAT, "messages": [{**MESSAGE, "content": LONG}]}),
        (wire_chat.ChatRequest, {**CHAT, "messages": [{**MESSAGE, "content": [{"type": "text", "text": "a"}] * 257}]}),
        (wire_chat.ChatRequest, {**CHAT, "messages": [{**MESSAGE, "name": "x" * 513}]}),
        (wire_chat.ChatRequest, {**CHAT, "stop": ["x"] * 17}),
        (wire_chat.ChatRequest, {**CHAT, "stop": "x" * 257}),
        (wire_chat.ChatRequest, {**CHAT, "user": "x" * 513}),
        (wire_chat.ChatRequest, {**CHAT, "metadata": {str(number): "x" for number in range(17)}}),
        (wire_chat.ChatRequest, {**CHAT, "metadata": {"a": "x" * 513}}),
        (wire_chat.ChatRequest, {**CHAT, "metadata": {"a": {"b": 1}}}),
        (wire_chat.ChatRequest, {**CHAT, "max_tokens": 10**30}),
        (wire.CompletionRequest, {**COMPLETION, "prompt": LONG}),
        (wire.CompletionRequest, {**COMPLETION, "prompt": ["q"] * 17}),
        (wire.CompletionRequest, {**COMPLETION, "prompt": [0] * (wire.MAX_TOKEN_IDS + 1)}),
        (wire.CompletionRequest, {**COMPLETION, "prompt": [2**31]}),
        (wire.CompletionRequest, {**COMPLETION, "suffix": LONG}),
        (wire.InfillRequest, {"input_prefix": LONG}),
        (wire.InfillRequest, {"input_extra": [{"text": ""}] * 257}),
        (wire.InfillRequest, {"response_fields": ["x" * 513]}),
        (wire.InfillRequest, {"n_predict": 10**30}),
        (wire.LoadAdapterRequest, {"lora_name": "a", "lora_path": "x" * 4097}),
    ],
)
def test_what_is_above_its_end_is_refused(kind, body):
    with pytest.raises(ValidationError):
        kind.model_validate(body)
