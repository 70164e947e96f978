"""Infill prompts that fit: what lies far from the gap is left out first, the target never."""

from dataclasses import dataclass

from finetune.contracts.dataset import Example, Role
from finetune.families.base import Family, Piece, encode_pieces
from finetune.families.tokens import Tokenizer

# A cropped prompt gives the suffix a quarter at most, unless the prefix leaves more room: code is read downwards.
SUFFIX_SHARE = 4


@dataclass(frozen=True)
class InfillPrompt:
    """Token ids up to where the answer begins, and what was left out to make them fit."""

    token_ids: list[int]
    cropped: bool
    num_context_left_out: int


def infill_prompt(tokenizer: Tokenizer, family: Family, example: Example, *, max_tokens: int) -> InfillPrompt | None:
    """The prompt of an infill example in at most max_tokens; None when not even its sentinels fit.

    Whole context files go first, the farthest (first) before the nearest; then the prefix loses its beginning and the
    suffix its end.
    """
    context = [(part.path or "", part.text) for part in example.segments if part.role is Role.CONTEXT]
    prefix, suffix = text_of(example, Role.PREFIX), text_of(example, Role.SUFFIX)
    for left_out in range(len(context) + 1):
        pieces = family.infill_pieces(prefix, suffix, context[left_out:])
        encoded = [encode_pieces(tokenizer, [piece]) for piece in pieces]
        if sum(map(len, encoded)) <= max_tokens:
            return InfillPrompt(_join(encoded), cropped=False, num_context_left_out=left_out)
    return _crop(pieces, encoded, max_tokens=max_tokens, left_out=len(context))


def _crop(pieces: list[Piece], encoded: list[list[int]], *, max_tokens: int, left_out: int) -> InfillPrompt | None:
    before, after = (place for place, piece in enumerate(pieces) if not piece.sentinel)
    room = max_tokens - sum(len(ids) for place, ids in enumerate(encoded) if pieces[place].sentinel)
    if room < 0:
        return None
    for_suffix = min(len(encoded[after]), max(room // SUFFIX_SHARE, room - len(encoded[before])))
    for_prefix = room - for_suffix
    encoded[before] = encoded[before][-for_prefix:] if for_prefix else []
    encoded[after] = encoded[after][:for_suffix]
    return InfillPrompt(_join(encoded), cropped=True, num_context_left_out=left_out)


def text_of(example: Example, role: Role) -> str:
    """The text of the segments with a role, joined."""
    return "".join(part.text for part in example.segments if part.role is role)


def _join(encoded: list[list[int]]) -> list[int]:
    return [token for ids in encoded for token in ids]
