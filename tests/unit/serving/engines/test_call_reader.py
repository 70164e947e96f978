"""Text and calls are told apart alike, however the answer is cut into steps."""

import json
import random

import pytest

from finetune.families.calls import JsonCalls, TaggedCalls
from serving.engines.call_reader import make_reader
from serving.engines.calls import Tool, ToolUse

SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "line": {"type": "integer"},
        "deep": {"type": "boolean"},
        "names": {"type": "array", "items": {"type": "string"}},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}
TOOLS = (Tool("read", "", json.dumps(SCHEMA)), Tool("stop", "", '{"type": "object"}'))
ARGUMENTS = {"path": 'a "b"\n</tool_cal\n\té😀', "line": 3, "deep": True, "names": ["x", "</x>"], "note": None}
JSON, TAGGED = JsonCalls(), TaggedCalls()


def read(form, pieces, *, must_call: bool = False, parallel: bool = True) -> tuple[str, list[tuple[str, str]], int]:
    """The text, the calls and how many were none."""
    reader = make_reader(form, ToolUse(TOOLS, must_call=must_call, parallel=parallel))
    parts = [*(reader.push(piece) for piece in pieces), reader.finish()]
    calls: list[tuple[str, str]] = []
    for delta in (delta for part in parts for delta in part.calls):
        if delta.name is not None:
            assert delta.index == len(calls)
            calls.append((delta.name, delta.arguments))
        else:
            calls[delta.index] = (calls[delta.index][0], calls[delta.index][1] + delta.arguments)
    assert len(calls) == reader.num_calls
    return "".join(part.text for part in parts), calls, sum(part.num_malformed for part in parts)


def written(form, name: str, arguments) -> str:
    """A call as a model writes it: texts in tags as they are, else JSON."""
    if form == TAGGED:
        arguments = {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in arguments.items()
        }
    return form.written(name, arguments)


def cuts(text: str):
    """The text cut at each place, into single characters, and at random."""
    yield from ([text[:place], text[place:]] for place in range(len(text) + 1))
    yield list(text)
    drawn = random.Random(0)
    for _ in range(20):
        places = sorted(drawn.randrange(len(text) + 1) for _ in range(6))
        yield [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@pytest.mark.parametrize("form", [JSON, TAGGED], ids=["json", "tagged"])
@pytest.mark.parametrize("must_call", [False, True])
def test_every_cut_gives_the_same_calls(form, must_call):
    text = written(form, "read", ARGUMENTS) + "\n" + written(form, "stop", {})
    for pieces in cuts(text):
        content, calls, malformed = read(form, pieces, must_call=must_call)
        assert (content, malformed) == ("", 0)
        assert [(name, json.loads(arguments)) for name, arguments in calls] == [("read", ARGUMENTS), ("stop", {})]


@pytest.mark.parametrize("form", [JSON, TAGGED], ids=["json", "tagged"])
def test_every_cut_gives_the_same_text_around_calls(form):
    broken = "<tool_call>\nnot a call\n</tool_call>"
    text = f"Look. \n\n{written(form, 'stop', {})}\n\nThen {broken} and {written(form, 'read', {'line': 1})}\n"
    results = {(content, tuple(calls), malformed) for content, calls, malformed in (read(form, c) for c in cuts(text))}
    assert results == {(f"Look.Then {broken} and", (("stop", "{}"), ("read", '{"line": 1}')), 1)}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (JSON, "<tool_call>"),
        (JSON, "<tool_call>\n</tool_call>"),
        (JSON, '<tool_call>{"name": "read"}</tool_call>'),
        (JSON, '<tool_call>{"name": "write", "arguments": {}}</tool_call>'),
        (JSON, '<tool_call>{"name": "read", "arguments": []}</tool_call>'),
        (JSON, '<tool_call>{"name": "read", "arguments": {"line": NaN}}</tool_call>'),
        (JSON, '<tool_call>{"name": "read", "arguments": {"line": 1e999}}</tool_call>'),
        (JSON, '<tool_call>{"name": "read", "arguments": {"line": 1' + "0" * 5000 + "}}</tool_call>"),
        (JSON, '<tool_call>{"name": "read", "arguments": {"path": "\\ud800"}}</tool_call>'),
        (JSON, "<tool_call>" + "[" * 100_000 + "</tool_call>"),
        (JSON, '<tool_call>{"name": {}, "arguments": {}}</tool_call>'),
        (JSON, '<tool_call>{"name": "read", "arguments": {"path": "a</tool_call> for ever'),
        (TAGGED, "<tool_call>\n<function=read>\n<parameter=path>\na</tool_call>"),
        (TAGGED, "<tool_call>\n<function=write>\n</function>\n</tool_call>"),
        (TAGGED, "<tool_call>\n<function=read>\nrubbish\n</function>\n</tool_call>"),
        (TAGGED, "<tool_call>\n<function=read>\n<parameter=path>\na\n</function>\n</tool_call>"),
        (TAGGED, "<tool_call>\n<parameter=path>\na\n</parameter>\n</tool_call>"),
    ],
)
def test_what_is_no_call_is_text_and_counted(form, text):
    for pieces in ([text], list(text), ["so: ", text]):
        content, calls, malformed = read(form, pieces)
        assert content == "".join(pieces) and not calls and malformed == 1


def test_text_without_tags_is_not_held():
    reader = make_reader(JSON, ToolUse(TOOLS))
    assert reader.push("a < b").text == "a < b"
    assert reader.push(" ").text == "" and reader.push("<tool").text == ""
    assert reader.push("s>").text == " <tools>"


def test_a_closing_tag_inside_a_text_ends_nothing():
    arguments = {"path": "a</tool_call>b"}
    assert read(JSON, [written(JSON, "read", arguments)])[1] == [("read", json.dumps(arguments))]
    assert read(TAGGED, [written(TAGGED, "read", arguments)])[1] == [("read", json.dumps(arguments))]


def test_a_call_that_the_answer_ends_behind_is_taken():
    assert read(JSON, ['<tool_call>{"name": "stop", "arguments": {}}'])[1] == [("stop", "{}")]


def test_one_call_is_enough_where_no_more_may_come():
    reader = make_reader(JSON, ToolUse(TOOLS, parallel=False))
    assert not reader.satisfied
    part = reader.push(written(JSON, "stop", {}) + "\n" + written(JSON, "stop", {}))
    assert reader.satisfied and {call.index for call in part.calls} == {0} and not reader.finish().text


def test_arguments_go_out_as_they_are_written():
    for form in (JSON, TAGGED):
        reader = make_reader(form, ToolUse(TOOLS, must_call=True))
        head, tail = written(form, "read", {"path": "one two"}).split(" two")
        before = [call.arguments for call in reader.push(head).calls]
        assert before[0] == "" and "".join(before) == '{"path": "one'
        assert "".join(call.arguments for call in reader.push(" two" + tail).calls) == ' two"}'


@pytest.mark.parametrize(
    ("text", "value"),
    [("True", True), ("false", False), ("maybe", "maybe")],
)
def test_a_word_of_python_is_a_value_where_no_text_is_meant(text, value):
    body = TAGGED.written("read", {"deep": text})
    assert json.loads(read(TAGGED, [body])[1][0][1]) == {"deep": value}


def test_a_text_stays_one_whatever_it_looks_like():
    body = TAGGED.written("read", {"path": "12", "note": "12", "other": "12"})
    assert json.loads(read(TAGGED, [body])[1][0][1]) == {"path": "12", "note": "12", "other": 12}
