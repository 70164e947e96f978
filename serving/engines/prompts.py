"""Prompts as token ids. The template's and the family's own words become special tokens, the user's never do."""

from dataclasses import dataclass
from typing import Any

from finetune.families.base import Family, Piece, encode_pieces
from serving.engines.base import ChatPrompt, InfillPrompt, Prompt, TextPrompt, TokenPrompt
from serving.engines.chat_prompts import chat_ids
from serving.errors import RequestError


@dataclass(frozen=True)
class RenderedPrompt:
    """Token ids up to where the answer begins, and the ids of tokens that end it.

    truncated says that some of an infill prompt's context was left out.
    """

    token_ids: list[int]
    stop_ids: frozenset[int]
    truncated: bool = False


def render(prompt: Prompt, tokenizer: Any, family: Family, *, max_tokens: int | None = None) -> RenderedPrompt:
    """The token ids of a prompt for this tokenizer and family. Raises RequestError for what cannot be rendered.

    max_tokens is what the context of an infill prompt must fit into with the rest, None for any; nothing else is cut.
    """
    stops: tuple[str, ...] = family.infill_stops or (family.document_end, family.turn_end)
    truncated = False
    match prompt:
        case ChatPrompt():
            ids, stops = chat_ids(prompt, tokenizer, family), family.facts().chat_stops
        case InfillPrompt():
            if family.sentinels is None:
                raise RequestError("This base has no infill tokens.", "Leave `suffix` out.", param="suffix")
            ids, truncated = _infill_ids(prompt, tokenizer, family, max_tokens=max_tokens)
        case TextPrompt(text):
            ids = tokenizer.encode(text, add_special_tokens=False)
        case TokenPrompt(token_ids):
            ids = list(token_ids)
            if not all(0 <= token < len(tokenizer) for token in ids):
                raise RequestError(f"Token ids of this base lie from 0 to {len(tokenizer) - 1}.", param="prompt")
    if not ids:
        raise RequestError("The prompt is empty.", "Give it at least one character.", param="prompt")
    return RenderedPrompt(ids, frozenset(tokenizer.convert_tokens_to_ids(list(stops))), truncated)


def _infill_ids(
    prompt: InfillPrompt, tokenizer: Any, family: Family, *, max_tokens: int | None
) -> tuple[list[int], bool]:
    """The ids with as much of the context as fits, the last files first, and whether some was left out."""
    opening, plain = family.opening(), family.infill_pieces(prompt.prefix, prompt.suffix)
    asked = [*plain[len(opening) :], *([Piece(prompt.begun)] if prompt.begun else [])]
    first, last = (encode_pieces(tokenizer, pieces) for pieces in (opening, asked))
    context: list[int] = []
    for file in reversed(prompt.context):
        # what stands above the prompt because of this file
        pieces = family.infill_pieces("", "", (file,))[len(opening) : len(opening) - len(plain)]
        added = encode_pieces(tokenizer, pieces)
        if max_tokens is not None and len(first) + len(added) + len(context) + len(last) > max_tokens:
            return [*first, *context, *last], True
        context = [*added, *context]
    return [*first, *context, *last], False
