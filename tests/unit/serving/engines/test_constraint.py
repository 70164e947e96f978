"""Random models under a grammar: whatever they would rather write, the answer has the form that was asked for."""

import asyncio
import json
from dataclasses import replace
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from finetune.contracts.adapter import Quantization
from finetune.families.qwen3 import QWEN3
from finetune.families.qwen3_5 import QWEN3_5
from finetune.model.loading import load_base
from serving.engines.base import ChatPrompt, ChatTurn, GenerationRequest, Sampling, TextPrompt
from serving.engines.calls import Tool, ToolCall, ToolUse
from serving.engines.transformers import TransformersEngine
from serving.errors import RequestError
from serving.settings import ServerSettings
from tests.unit.tool_templates import JSON_TOOLS, TAGGED_TOOLS

pytestmark = pytest.mark.slow
SETTINGS = ServerSettings(max_tokens=300, max_context_tokens=2000, max_requests=64, max_batch=32)
HOT = Sampling(temperature=1.5, max_tokens=300)


class More(BaseModel):
    """Inside another."""

    model_config = ConfigDict(extra="forbid", strict=True)

    d: bool


class Parcel(BaseModel):
    """What the answers are held to, and checked by. Names are short: a token is a byte."""

    model_config = ConfigDict(extra="forbid", strict=True)

    n: Annotated[str, Field(max_length=8)]
    s: Annotated[int, Field(ge=0, le=999)]
    k: Literal["small", "large"] | None
    t: Annotated[list[bool], Field(min_length=1, max_length=3)]
    m: More | None = None


class Empty(BaseModel):
    """No parameters."""

    model_config = ConfigDict(extra="forbid")


SCHEMA = Parcel.model_json_schema()
MODELS: dict[str, type[BaseModel]] = {"save": Parcel, "stop": Empty}
PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"
QUESTION = ChatPrompt((ChatTurn("user", "hi"),))
TOOLS = tuple(Tool(name, "", json.dumps(model.model_json_schema())) for name, model in MODELS.items())


def make_engine(tiny_base, family, template: str) -> TransformersEngine:
    base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    base.model.float()
    base.tokenizer.chat_template = template
    return TransformersEngine(replace(base, family=family), SETTINGS)


@pytest.fixture(scope="module")
def engine(tiny_base):
    """Its template writes calls as JSON."""
    one = make_engine(tiny_base, QWEN3, JSON_TOOLS)
    yield one
    one.close()


@pytest.fixture(scope="module")
def tagged_engine(tiny_base):
    """Its template writes each argument between tags."""
    one = make_engine(tiny_base, QWEN3_5, TAGGED_TOOLS)
    yield one
    one.close()


@pytest.fixture(params=["engine", "tagged_engine"])
def either_engine(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def plain_engine(tiny_base):
    """Over a base whose template knows no tools."""
    one = make_engine(tiny_base, QWEN3, PLAIN)
    yield one
    one.close()


async def answer(engine, request: GenerationRequest):
    """The text, the calls and the reason."""
    text, calls, reason = "", {}, None
    async for delta in await engine.generate(request):
        text, reason = text + delta.text, delta.finish_reason or reason
        for call in delta.calls:
            name, arguments = calls.get(call.index, (call.name, ""))
            calls[call.index] = name, arguments + call.arguments
    return text, [calls[index] for index in sorted(calls)], reason


def answers(engine, requests):
    async def scene():
        return await asyncio.gather(*(answer(engine, request) for request in requests))

    return asyncio.run(scene())


def seeded(prompt, *, schema=None, number: int = 20, max_tokens: int = 300) -> list[GenerationRequest]:
    text = None if schema is None else json.dumps(schema)
    hot = replace(HOT, max_tokens=max_tokens)
    return [GenerationRequest(prompt, replace(hot, seed=seed), None, text) for seed in range(number)]


def test_a_schema_is_always_satisfied(engine):
    found = answers(engine, seeded(QUESTION, schema=SCHEMA))
    for text, calls, reason in found:
        Parcel.model_validate_json(text)
        assert not calls and reason == "stop"
    assert len({text for text, _, _ in found}) > 10


def test_any_object_is_an_object(engine):
    """It may be longer than an answer may be."""
    for text, _, reason in answers(engine, seeded(QUESTION, schema={"type": "object"}, number=4, max_tokens=60)):
        assert text.startswith("{") and (reason == "length" or isinstance(json.loads(text), dict))


def test_a_call_that_must_be_is_always_valid(either_engine):
    use = ToolUse(TOOLS, must_call=True, parallel=False)
    found = answers(either_engine, seeded(replace(QUESTION, use=use), number=12))
    names = set()
    for text, calls, reason in found:
        ((name, arguments),) = calls
        names.add(name)
        assert text == "" and reason == "tool_calls"
        MODELS[name].model_validate_json(arguments)
    assert names == {"save", "stop"}


def test_a_named_tool_is_the_one_that_is_called(engine):
    use = ToolUse(TOOLS, must_call=True, name="stop")
    for text, calls, reason in answers(engine, seeded(replace(QUESTION, use=use), number=3)):
        ((name, arguments),) = calls
        assert (text, name, json.loads(arguments), reason) == ("", "stop", {}, "tool_calls")


def test_several_calls_come_one_behind_the_other(engine):
    use = ToolUse((TOOLS[1],), must_call=True)
    found = answers(engine, seeded(replace(QUESTION, use=use), number=8, max_tokens=150))
    assert {name for _, calls, _ in found for name, _ in calls} == {"stop"}
    assert max(len(calls) for _, calls, _ in found) > 1


def test_with_a_schema_and_tools_it_is_either(engine):
    use = ToolUse(TOOLS, parallel=False)
    for text, calls, _ in answers(engine, seeded(replace(QUESTION, use=use), schema=SCHEMA, number=6)):
        assert bool(text) != bool(calls)
        if text:
            Parcel.model_validate_json(text)


def test_free_and_held_rows_of_a_batch_are_what_each_is_alone(engine):
    free = [GenerationRequest(TextPrompt("x" * size), Sampling(temperature=0.0, max_tokens=30)) for size in (3, 9)]
    hot = [GenerationRequest(TextPrompt("abc"), replace(HOT, seed=3, max_tokens=30))]
    held = seeded(QUESTION, schema=SCHEMA, number=3, max_tokens=30)
    calling = seeded(replace(QUESTION, use=ToolUse(TOOLS, must_call=True)), number=2, max_tokens=30)
    together = [free[0], held[0], hot[0], *calling, held[1], free[1], held[2]]
    alone = [answers(engine, [request])[0] for request in together]
    assert answers(engine, together) == alone


def test_log_probs_are_those_of_the_model_and_not_of_the_mask(engine):
    async def scores():
        request = GenerationRequest(
            QUESTION, Sampling(temperature=0.0, max_tokens=4, num_top_log_probs=3), None, json.dumps(SCHEMA)
        )
        return [score async for delta in await engine.generate(request) for score in delta.scores]

    found = asyncio.run(scores())
    assert found and all(score.log_prob > -1e6 and len(score.top) == 3 for score in found)
    assert any(score.log_prob < score.top[-1][1] for score in found)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"$ref": "#/$defs/absent"}, "absent"),
        ({"type": "text"}, "Invalid type: text"),
        ({"$ref": "http://example.com/schema"}, "example.com"),
    ],
)
def test_a_schema_that_is_not_supported_is_refused_with_what_is_not(engine, schema, words):
    with pytest.raises(RequestError, match="not supported") as caught:
        answers(engine, seeded(QUESTION, schema=schema, number=1))
    assert caught.value.param == "response_format" and words in str(caught.value)


def test_a_base_without_tools_refuses_them_and_holds_to_schemas(plain_engine):
    with pytest.raises(RequestError, match="no tool calls") as caught:
        answers(plain_engine, seeded(replace(QUESTION, use=ToolUse(TOOLS)), number=1))
    assert caught.value.param == "tools"
    for turn in (ChatTurn("tool", "x"), ChatTurn("assistant", "", (ToolCall("stop", "{}"),))):
        with pytest.raises(RequestError, match="no tool calls") as caught:
            answers(plain_engine, seeded(ChatPrompt((*QUESTION.turns, turn)), number=1))
        assert caught.value.param == "messages"
    ((text, _, _),) = answers(plain_engine, seeded(QUESTION, schema=SCHEMA, number=1))
    Parcel.model_validate_json(text)
