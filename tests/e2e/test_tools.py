"""Tools and JSON answers through the official client: the embedded base, which knows no tools by itself, under a
published chat template that has them."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field

from finetune.embedded import BASE_FOLDER
from serving.run import running_server

pytestmark = pytest.mark.slow
TRL = importlib.util.find_spec("trl")
assert TRL and TRL.origin
TEMPLATE = Path(TRL.origin).parent / "chat_templates" / "qwen3_5_nothink.jinja"
QUESTION = [{"role": "user", "content": "Where is the price of a cart computed?"}]


class Search(BaseModel):
    """Find text in the repository."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=12)]
    kind: Literal["word", "regex"]
    limit: Annotated[int, Field(ge=1, le=99)]
    folders: Annotated[list[Literal["shop", "tests"]], Field(max_length=2)]


class Verdict(BaseModel):
    """What the answers are held to."""

    model_config = ConfigDict(extra="forbid")

    file: Annotated[str, Field(max_length=16)]
    sure: bool


TOOLS = [
    {
        "type": "function",
        "function": {"name": "search", "description": "Finds.", "parameters": Search.model_json_schema()},
    },
    {"type": "function", "function": {"name": "finish", "description": "Ends."}},
]
FORMAT = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": Verdict.model_json_schema()}}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "embedded"
    shutil.copytree(BASE_FOLDER, folder)
    shutil.copy(TEMPLATE, folder / "chat_template.jinja")
    return folder


@pytest.fixture(scope="module")
def client(base: Path, tmp_path_factory) -> Iterator[openai.OpenAI]:
    with (
        running_server(base, tmp_path_factory.mktemp("adapters")) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120) as one,
    ):
        yield one


def ask(client, **options):
    return client.chat.completions.create(
        model="embedded", **{"messages": QUESTION, "max_tokens": 120, "temperature": 0, **options}
    )


def test_a_call_that_is_required_is_valid_and_may_be_answered(client):
    answer = ask(client, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "search"}})
    choice = answer.choices[0]
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and choice.message.content is None and call.function.name == "search"
    Search.model_validate_json(call.function.arguments)
    told = {"role": "tool", "tool_call_id": call.id, "content": "shop/cart.py: def total(cart)"}
    after = ask(client, messages=[*QUESTION, choice.message, told], tools=TOOLS, tool_choice="none")
    assert after.choices[0].message.tool_calls is None
    assert after.usage.prompt_tokens > len("shop/cart.py") / 4


def test_a_stream_of_a_call_is_the_whole_call_in_pieces(client):
    options = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    (call,) = ask(client, **options).choices[0].message.tool_calls
    chunks = list(ask(client, **options, stream=True))
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    assert pieces[0].function.name == call.function.name and pieces[0].id and {one.index for one in pieces} == {0}
    assert "".join(piece.function.arguments for piece in pieces) == call.function.arguments and len(pieces) > 2
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_client_puts_the_stream_of_a_call_together(client):
    with client.chat.completions.stream(
        model="embedded",
        messages=QUESTION,
        tools=[openai.pydantic_function_tool(Search, name="search")],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=120,
        seed=1,
    ) as stream:
        final = stream.get_final_completion()
    assert all(isinstance(call.function.parsed_arguments, Search) for call in final.choices[0].message.tool_calls)


def test_an_answer_satisfies_its_schema_whole_and_streamed(client):
    whole = ask(client, response_format=FORMAT).choices[0]
    Verdict.model_validate_json(whole.message.content)
    assert whole.finish_reason == "stop"
    chunks = list(ask(client, response_format=FORMAT, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_client_parses_an_answer_into_its_own_class(client):
    parsed = client.chat.completions.parse(
        model="embedded", messages=QUESTION, response_format=Verdict, max_tokens=120, n=3, seed=1
    )
    assert all(isinstance(choice.message.parsed, Verdict) for choice in parsed.choices)


def test_free_and_held_answers_at_once_are_those_alone(client):
    options = [{}, {"response_format": FORMAT}, {"tools": TOOLS, "tool_choice": "required"}, {"tools": TOOLS}]

    def said(one) -> tuple[str | None, list[tuple[str, str]]]:
        message = ask(client, **one, max_tokens=40).choices[0].message
        return message.content, [(call.function.name, call.function.arguments) for call in message.tool_calls or []]

    alone = [said(one) for one in options]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(said, options * 2))
    # in 16 bits a batch rounds otherwise than a row alone, so what is free may fork
    assert [bool(calls) for _, calls in together] == [bool(calls) for _, calls in alone] * 2
    Verdict.model_validate_json(together[1][0])


@pytest.mark.parametrize(
    ("options", "param"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}},
            "response_format",
        ),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "a",
                            "parameters": {"type": "object", "properties": {"x": {"type": "string", "format": "date"}}},
                        },
                    }
                ],
                "tool_choice": "required",
            },
            "tools",
        ),
    ],
)
def test_what_cannot_be_held_to_is_refused_before_anything_is_sent(client, options, param):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, **options, stream=stream)
        assert caught.value.param == param and "not supported" in str(caught.value)


def test_the_embedded_base_itself_has_no_tools(tmp_path):
    with (
        running_server(BASE_FOLDER, tmp_path) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120) as client,
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="embedded", messages=QUESTION, tools=TOOLS)
        assert caught.value.param == "tools"
        answer = client.chat.completions.create(
            model="embedded", messages=QUESTION, response_format={"type": "json_object"}, max_tokens=20
        )
        assert json.dumps(answer.choices[0].message.content).startswith('"{')
