"""Read whole tool calls out of text, in the form of the base's family."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from finetune.families.calls import CallForm, JsonCalls
from serving.engines.calls import Tool, ToolCall

FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*)</function>\s*", re.DOTALL)
PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>(.*?)</parameter>\s*", re.DOTALL)
# Qwen's own chat template writes them as Python does
PYTHON_WORDS: Mapping[str, object] = {"True": True, "False": False, "None": None}
KINDS: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (str, "string"),
    (int, "integer"),
    (float, "number"),
    (list, "array"),
    (dict, "object"),
    (type(None), "null"),
)


class Unread(Enum):
    """Why a text is no call: it can become none, or it ends before its time."""

    MALFORMED = "malformed"
    INCOMPLETE = "incomplete"


def read_call(body: str, form: CallForm, tools: Sequence[Tool]) -> ToolCall | Unread:
    """The call that stands between the tags of form, of one of tools. It never raises, whatever body is."""
    known = {tool.name: tool for tool in tools}
    try:
        call = _json_call(body) if isinstance(form, JsonCalls) else _tagged_call(body, known)
        if isinstance(call, ToolCall):
            # half of a surrogate pair cannot be sent
            call.arguments.encode()
            return call if call.name in known else Unread.MALFORMED
    except (ValueError, RecursionError):
        return Unread.MALFORMED
    return call


def parameter_kinds(tool: Tool, name: str) -> frozenset[str]:
    """The JSON types that the tool's schema allows for a parameter; empty where it does not say."""
    properties = json.loads(tool.parameters).get("properties")
    return schema_kinds(properties.get(name) if isinstance(properties, dict) else None)


def schema_kinds(schema: object) -> frozenset[str]:
    """The JSON types that a schema names, in itself or in its alternatives; empty where one of these does not say."""
    if not isinstance(schema, dict):
        return frozenset()
    named = schema.get("type")
    if named is not None:
        return frozenset(kind for kind in listed(named) if isinstance(kind, str))
    if "const" in schema or "enum" in schema:
        return frozenset(map(_kind, listed(schema["const"] if "const" in schema else schema["enum"])))
    branches = [schema_kinds(branch) for branch in listed(schema.get("anyOf", schema.get("oneOf", [])))]
    return frozenset[str]().union(*branches) if all(branches) else frozenset()


def parameter_value(text: str, kinds: frozenset[str]) -> object:
    """What a parameter's text stands for: itself if kinds are texts alone, else JSON where it is of one of them."""
    if kinds == {"string"}:
        return text
    word = text.strip()
    try:
        value = PYTHON_WORDS[word] if word in PYTHON_WORDS else _loads(word)
    except ValueError:
        return text
    fits = not kinds or _kind(value) in kinds or (_kind(value) == "integer" and "number" in kinds)
    return value if fits or "string" not in kinds else text


def dumps(value: object) -> str:
    """JSON as arguments are sent."""
    return json.dumps(value, ensure_ascii=False)


def _json_call(body: str) -> ToolCall | Unread:
    try:
        call = _loads(body)
    except json.JSONDecodeError as error:
        # the closing tag stood inside a text
        return Unread.INCOMPLETE if error.msg.startswith("Unterminated string") else Unread.MALFORMED
    if not isinstance(call, dict) or set(call) != {"name", "arguments"} or not isinstance(call["arguments"], dict):
        return Unread.MALFORMED
    return ToolCall(str(call["name"]), dumps(call["arguments"]))


def _tagged_call(body: str, known: Mapping[str, Tool]) -> ToolCall | Unread:
    found = FUNCTION.fullmatch(body)
    if found is None:
        begun = body.lstrip().startswith("<function=") and "</function>" not in body
        return Unread.INCOMPLETE if begun else Unread.MALFORMED
    name, rest = found.groups()
    if name not in known:
        return Unread.MALFORMED
    arguments: dict[str, object] = {}
    place = 0
    while part := PARAMETER.match(rest, place):
        key, text = part.groups()
        text = text.removeprefix("\n").removesuffix("\n")
        arguments[key] = parameter_value(text, parameter_kinds(known[name], key))
        place = part.end()
    return Unread.MALFORMED if rest[place:].strip() else ToolCall(name, dumps(arguments))


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number that JSON can hold")
    return number


def _kind(value: object) -> str:
    return next(kind for type_, kind in KINDS if isinstance(value, type_))


def listed(value: object) -> list[Any]:
    """The elements of a list, and of anything else itself."""
    return value if isinstance(value, list) else [value]
