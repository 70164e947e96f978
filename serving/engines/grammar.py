"""Grammars that an answer must follow, in llguidance's dialect of Lark: JSON by a schema, and calls of tools."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from finetune.families.calls import CallForm, JsonCalls
from serving.engines.call_text import listed, parameter_kinds
from serving.engines.calls import Tool, ToolUse
from serving.errors import RequestError

MAX_CALLS = 16
# A line's end with some indentation, or a space: where JSON allows any white space a model may write it for ever
SPACE = r"(\n {0,40}| )?"
# Of a schema for a plain text, what does not limit it
NOTES = frozenset({"type", "title", "description", "default", "examples", "deprecated", "$comment"})
SIZES = frozenset({"minLength", "maxLength"})
# Of a tool's parameters, what a form with one tag for each argument can follow
PARAMETERS = NOTES | {"properties", "required", "additionalProperties", "$defs", "definitions", "$schema", "$id"}
# Keywords that each schema of the tool's is looked up in
SHARED = ("$defs", "definitions")
NAMED_IN_TAG = re.compile(r"[^>\n]+")

# Whether a text is one token of its own, which no other spelling stands for
IsToken = Callable[[str], bool]


def answer_grammar(schema: str | None, use: ToolUse | None, *, form: CallForm | None, is_token: IsToken) -> str | None:
    """The grammar of an answer that is JSON by schema, itself JSON text, or calls as use has it; None: it is free.

    form is None only without use. Raises RequestError for a schema that the form cannot follow.
    """
    if use is None or form is None:
        return None if schema is None else f"start: {_json(json.loads(schema))}\n"
    if use.must_call or schema is not None:
        calls, rules = _calls(use, form, is_token)
        answer = "" if use.must_call or schema is None else f"{_json(json.loads(schema))} | "
        return f"start: {answer}{calls}\n{rules}"
    if any(tool.strict for tool in use.tools):
        return _strict_grammar(use, form, is_token)
    return None


def _strict_grammar(use: ToolUse, form: CallForm, is_token: IsToken) -> str:
    """An answer of any text, in which what begins as a call is one."""
    calls, rules = _calls(use, form, is_token, opened=True)
    opens = _pattern(form.opens)
    # text in which no call begins
    text = f"TEXT: /(?s:.*)/ & ~/(?s:.*){opens}(?s:.*)/\n"
    if is_token(form.opens):
        return f"start: TEXT ({form.opens} {calls})?\n{text}{rules}"
    # or the shortest that ends where one does
    return f"start: TEXT | begun {calls}\n{text}begun[lazy]: /(?s:.*){opens}/\n{rules}"


def _calls(use: ToolUse, form: CallForm, is_token: IsToken, *, opened: bool = False) -> tuple[str, str]:
    """An expression for one call or several, and the rules that it needs. opened: the first tag stands before it."""
    opens, closes = (tag if is_token(tag) else _text(tag) for tag in (form.opens, form.closes))
    bodies = [
        _json_body(tool) if isinstance(form, JsonCalls) else _tagged_body(tool, number)
        for number, tool in enumerate(use.callable)
    ]
    names = [f"call_{number}" for number in range(len(bodies))]
    rules = "".join(f"{name}: {body}\n" for name, body in zip(names, bodies, strict=True))
    rules += f'call: "\\n" ({" | ".join(names)}) "\\n" {closes}\n'
    first = "call" if opened else f"{opens} call"
    several = use.parallel and use.name is None
    return f'{first} ("\\n" {opens} call){{0,{MAX_CALLS - 1}}}' if several else first, rules


def _json_body(tool: Tool) -> str:
    head = f'{{"name": "{tool.name}", "arguments": '
    return f"{_text(head)} {_json(json.loads(tool.parameters))} {_text('}')}"


def _tagged_body(tool: Tool, number: int) -> str:
    """The tags of a call, and behind it the rules of its values."""
    schema = json.loads(tool.parameters)
    properties = schema.get("properties", {})
    odd = sorted(set(schema) - PARAMETERS)
    if odd or schema.get("type", "object") != "object" or not isinstance(properties, dict):
        raise _unsupported(tool, f"{odd[0]!r} beside its properties" if odd else "anything but an object")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise _unsupported(tool, "'required' that is no list of names")
    if absent := [name for name in required if name not in properties]:
        raise _unsupported(tool, f"the required {absent[0]!r}, which is no property")
    parts, rules = [_text(f"<function={tool.name}>\n")], []
    for place, (name, given) in enumerate(properties.items()):
        if not NAMED_IN_TAG.fullmatch(name):
            raise _unsupported(tool, f"the parameter name {name!r}")
        rule = f"value_{number}_{place}"
        rules.append(_value_rule(rule, tool, name, given, {key: schema[key] for key in SHARED if key in schema}))
        tag = f"<parameter={name}>\n"
        part = f"{_text(tag)} {rule}"
        parts.append(part if name in required else f"({part})?")
    return " ".join([*parts, _text("</function>")]) + "".join(f"\n{rule}" for rule in rules)


def _value_rule(rule: str, tool: Tool, name: str, schema: Any, shared: Mapping[str, Any]) -> str:
    """A rule for a parameter's value with the tag that ends it."""
    end = "\n</parameter>\n"
    if not isinstance(schema, dict) or parameter_kinds(tool, name) != {"string"}:
        whole = {**shared, **schema} if isinstance(schema, dict) else schema
        return f"{rule}: {_json(whole)} {_text(end)}"
    if "enum" in schema or "const" in schema:
        choices = [one for one in listed(schema.get("enum", schema.get("const"))) if isinstance(one, str)]
        return f"{rule}: ({' | '.join(map(_text, choices))}) {_text(end)}"
    odd = sorted(set(schema) - NOTES - SIZES)
    odd += [key for key in SIZES if not isinstance(schema.get(key, 0), int)]
    if odd:
        raise _unsupported(tool, f"{odd[0]!r} for the text {name!r}")
    # it ends at the first end tag
    sizes = f"{{{schema.get('minLength', 0)},{schema.get('maxLength', '')}}}"
    ended = _pattern(end)
    return f"{rule}[lazy]: /(?s:.{sizes}){ended}/ & ~/(?s:.*){ended}(?s:.+)/"


def _unsupported(tool: Tool, what: str) -> RequestError:
    return RequestError(
        f"A call of {tool.name!r} cannot be held to its parameters with this base: {what} is not supported.",
        "Simplify the schema, or let tool_choice be auto and leave strict out.",
        param="tools",
    )


def _json(schema: Any) -> str:
    options = {"x-guidance": {"whitespace_pattern": SPACE}}
    return f"%json {json.dumps({**schema, **options} if isinstance(schema, dict) else schema)}"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _pattern(text: str) -> str:
    return re.escape(text).replace("/", "\\/").replace("\\\n", "\\n")
