"""What grammars of calls let through: over a tokenizer where tags are plain text, and one where they are tokens."""

import json

import pytest
import torch

from finetune.embedded import BASE_FOLDER
from finetune.families.calls import JsonCalls, TaggedCalls
from finetune.model.loading import load_tokenizer
from serving.engines.calls import Tool, ToolUse
from serving.engines.constraint import Grammars
from serving.engines.grammar import answer_grammar
from serving.errors import RequestError

STOP = "<|im_end|>"
PARAMETERS = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "size": {"type": "integer"},
        "kind": {"type": "string", "enum": ["a", 'b"']},
        "code": {"type": "string", "minLength": 1, "maxLength": 3},
        "rows": {"$ref": "#/$defs/rows"},
    },
    "required": ["text"],
    "additionalProperties": False,
    "$defs": {"rows": {"type": "array", "items": {"type": "integer"}}},
}
TOOLS = (
    Tool("save", "", json.dumps(PARAMETERS)),
    Tool("stop", "", '{"properties": {}, "additionalProperties": false}'),
)
JSON, TAGGED = JsonCalls(), TaggedCalls()


@pytest.fixture(params=["plain", "tokens"])
def tokenizer(request, tiny_base):
    """Tags of calls are spelled, or are tokens of their own."""
    return load_tokenizer(tiny_base) if request.param == "plain" else request.getfixturevalue("calling_tokenizer")


@pytest.fixture
def takes(tokenizer):
    """Whether an answer may be these texts, each encoded by itself, and then end."""
    stop = tokenizer.convert_tokens_to_ids(STOP)
    grammars = Grammars(tokenizer, frozenset([stop]))

    def check(form, use: ToolUse, *texts: str) -> bool:
        grammar = answer_grammar(None, use, form=form, is_token=grammars.is_token)
        assert grammar is not None
        constraint = grammars.constraint(grammar, param="tools")
        ended = False
        for token in (one for text in texts for one in tokenizer.encode(text, add_special_tokens=False)):
            if ended or constraint.masked(torch.zeros(len(tokenizer)))[token] < 0:
                return False
            ended = constraint.accept(token)
        return ended or bool(constraint.masked(torch.zeros(len(tokenizer)))[stop] == 0)

    yield check
    grammars.close()


@pytest.mark.parametrize("form", [JSON, TAGGED], ids=["json", "tagged"])
def test_only_valid_calls_are_taken_where_they_must_be(takes, form):
    use = ToolUse(TOOLS, must_call=True)
    stop, save = form.written("stop", {}), form.written("save", {"text": "x", "size": 3})
    assert takes(form, use, stop) and takes(form, use, save) and takes(form, use, f"{stop}\n{save}")
    for text in ("", "no", f"so {stop}", f"{stop} so", stop[:-1], form.written("save", {"size": 3})):
        assert not takes(form, use, text), text
    assert not takes(form, use, form.written("stop", {"size": 3}))
    assert not takes(form, ToolUse(TOOLS, must_call=True, parallel=False), f"{stop}\n{save}")
    named = ToolUse(TOOLS, must_call=True, name="save")
    assert takes(form, named, save) and not takes(form, named, stop) and not takes(form, named, f"{save}\n{save}")


@pytest.mark.parametrize("form", [JSON, TAGGED], ids=["json", "tagged"])
def test_a_strict_tool_lets_any_text_through_and_no_wrong_call(takes, form):
    use = ToolUse((Tool("save", "", json.dumps(PARAMETERS), strict=True), TOOLS[1]))
    stop, save = form.written("stop", {}), form.written("save", {"text": "x"})
    for text in ("", "yes, a < b", stop, f"Look.\n\n{save}", f"{stop}\n{save}"):
        assert takes(form, use, text), text
    for text in (form.written("save", {}), f"Look.\n{form.written('stop', {'x': 1})}", "<tool_call>\nso", f"{stop} so"):
        assert not takes(form, use, text), text
    # a tag that is spelled where it is a token of its own
    assert not takes(form, use, "<tool", "_call>\nso")


def test_texts_between_tags_keep_to_their_schema(takes):
    use = ToolUse(TOOLS, must_call=True)

    def save(**more: str) -> str:
        return TAGGED.written("save", {"text": 'any "text"\n</parameter\n> é', **more})

    for good in ({"kind": "a"}, {"kind": 'b"'}, {"code": "x"}, {"code": "é\né"}, {"rows": "[1, 2]"}, {"size": "-4"}):
        assert takes(TAGGED, use, save(**good)), good
    for bad in ({"kind": "c"}, {"code": ""}, {"code": "four"}, {"rows": '["x"]'}, {"size": "x"}, {"other": "x"}):
        assert not takes(TAGGED, use, save(**bad)), bad


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"properties": {"x": {"type": "string", "pattern": "a+"}}}, "'pattern' for the text 'x'"),
        ({"properties": {"x": {"type": "string", "format": "date"}}}, "'format' for the text 'x'"),
        ({"anyOf": [{"type": "object"}]}, "'anyOf' beside its properties"),
        ({"type": "array"}, "anything but an object"),
        ({"properties": []}, "anything but an object"),
        ({"properties": {"a>b": {}}}, "the parameter name 'a>b'"),
        ({"properties": {}, "required": ["x"]}, "the required 'x', which is no property"),
        ({"properties": {}, "required": [{}]}, "'required' that is no list of names"),
        ({"properties": {"x": {"type": "string", "minLength": "0}/"}}}, "'minLength' for the text 'x'"),
    ],
)
def test_what_tags_cannot_hold_to_is_refused(takes, parameters, words):
    use = ToolUse((Tool("save", "", json.dumps(parameters)),), must_call=True)
    with pytest.raises(RequestError, match="not supported") as caught:
        takes(TAGGED, use, "")
    assert words in str(caught.value) and caught.value.param == "tools"


def test_tools_that_need_no_grammar_have_none():
    assert answer_grammar(None, ToolUse(TOOLS), form=JSON, is_token=lambda text: False) is None
    assert answer_grammar(None, None, form=None, is_token=lambda text: False) is None


def test_a_schema_that_grows_too_complex_spoils_nothing_for_the_next_answer():
    """It shows after some tokens only: each repetition may overlap with all others."""
    tokenizer = load_tokenizer(BASE_FOLDER)
    grammars = Grammars(tokenizer, frozenset(tokenizer.convert_tokens_to_ids([STOP])))
    schema = json.dumps({"type": "string", "pattern": "^(.{0,200}x.{0,200}y.{0,300})+z$"})
    grammar = answer_grammar(schema, None, form=None, is_token=grammars.is_token)
    assert grammar is not None

    def follow(text: str) -> None:
        constraint = grammars.constraint(grammar, param="response_format")
        for letter in text:
            constraint.masked(torch.zeros(len(tokenizer)))
            constraint.accept(*tokenizer.encode(letter, add_special_tokens=False))

    with pytest.raises(RequestError, match="too complex") as caught:
        follow('"' + "xy" * 100)
    assert caught.value.param == "response_format"
    follow('"xyz"')
    grammars.close()


def test_a_tokenizer_that_is_not_read_refuses_forms():
    grammars = Grammars(object(), frozenset([0]))
    with pytest.raises(RequestError, match="its tokenizer is of a kind that is not read") as caught:
        grammars.constraint("start: /a/", param="response_format")
    assert caught.value.param == "response_format"
    grammars.close()
