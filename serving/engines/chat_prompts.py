"""Conversations as token ids, rendered by the base's chat template, with the tools and calls that they hold."""

import json
import re
import secrets
from typing import Any

from finetune.families.base import Family, Piece, encode_pieces
from serving.engines.base import ChatPrompt, ChatTurn
from serving.engines.calls import Tool
from serving.errors import RequestError

# Stands for the text of a turn while the template is rendered, so that the two can be told apart.
MARKER = "turn-text-5d0e93b7-{}-"
# Stands inside each name of a token in tools and calls, which the template writes down with quotes and brackets of its
# own; no client knows it
CUT = f"cut-{secrets.token_hex(8)}-"


def chat_ids(prompt: ChatPrompt, tokenizer: Any, family: Family) -> list[int]:
    """Render the template over markers, then put each turn's text in their place, encoded as plain text.

    A training row is encoded in the same three parts (template, text, template), so the ids agree with it. Raises
    RequestError for what the template refuses or does not show.
    """
    if not tokenizer.chat_template:
        raise RequestError("This base has no chat template.", "Use /v1/completions.", param="messages")
    markers = [MARKER.format(index) if _has_text(turn) else "" for index, turn in enumerate(prompt.turns)]
    rendered = _apply(prompt, markers, tokenizer=tokenizer, family=family)
    spaced = [marker and f"\n {marker} \n" for marker in markers]
    padded = _apply(prompt, spaced, tokenizer=tokenizer, family=family)
    ids: list[int] = []
    for turn, marker in zip(prompt.turns, markers, strict=True):
        if not marker:
            continue
        before, found, rendered = rendered.partition(marker)
        if not found or marker in rendered:
            raise RequestError(
                f"The chat template of this base does not show a {turn.role} message in that place.",
                "Begin with one system message or none, then let user and assistant take turns.",
                param="messages",
            )
        ids += _template_ids(before, tokenizer)
        text = turn.content if f"\n {marker} \n" in padded else turn.content.strip()
        ids += encode_pieces(tokenizer, [Piece(text)])
    return [*ids, *_template_ids(rendered, tokenizer)]


def _has_text(turn: ChatTurn) -> bool:
    """Templates write calls alone in another way than calls behind a text."""
    return bool(turn.content or not turn.calls)


def _template_ids(text: str, tokenizer: Any) -> list[int]:
    return [token for part in text.split(CUT) for token in tokenizer.encode(part, add_special_tokens=False)]


def _apply(prompt: ChatPrompt, texts: list[str], *, tokenizer: Any, family: Family) -> str:
    from jinja2 import TemplateError

    names = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
    inside = re.compile(f"(?=(?:{'|'.join(map(re.escape, names))}))(.)", re.DOTALL) if names else None
    messages = [_message(turn, text, inside) for turn, text in zip(prompt.turns, texts, strict=True)]
    tools = {"tools": [_tool(tool, inside) for tool in prompt.use.tools]} if prompt.use else {}
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **tools, **dict(family.chat_template_kwargs)
        )
    except TemplateError as error:
        raise RequestError(
            f"The chat template of this base refuses the messages: {error}.", param="messages"
        ) from error


def _message(turn: ChatTurn, text: str, inside: re.Pattern[str] | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": text}
    if turn.calls:
        functions = [{"name": call.name, "arguments": _cut(json.loads(call.arguments), inside)} for call in turn.calls]
        message["tool_calls"] = [{"type": "function", "function": function} for function in functions]
    return message


def _tool(tool: Tool, inside: re.Pattern[str] | None) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = _cut(tool.description, inside)
    function["parameters"] = _cut(json.loads(tool.parameters), inside)
    return {"type": "function", "function": function}


def _cut(value: Any, inside: re.Pattern[str] | None) -> Any:
    """value with a cut in each name of a token that its texts hold: what a client writes is never a special token."""
    if isinstance(value, str):
        return inside.sub(rf"\1{CUT}", value) if inside else value
    if isinstance(value, list):
        return [_cut(one, inside) for one in value]
    if isinstance(value, dict):
        return {_cut(key, inside): _cut(one, inside) for key, one in value.items()}
    return value
