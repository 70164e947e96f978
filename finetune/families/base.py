"""Family: what the rest of the project must know of a line of models, as data."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Protocol

from finetune.contracts.adapter import FamilyFacts
from finetune.contracts.errors import BaseModelError


@dataclass(frozen=True)
class Supported:
    """Works and is tested."""


@dataclass(frozen=True)
class Experimental:
    """Works with a reservation that the user is told."""

    note: str


@dataclass(frozen=True)
class Unsupported:
    """Does not work; the reason is part of the refusal."""

    reason: str


Capability = Supported | Experimental | Unsupported


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that rendering uses."""

    def encode(self, text: str, *, add_special_tokens: bool = ..., split_special_tokens: bool = ...) -> list[int]: ...

    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...

    def get_vocab(self) -> dict[str, int]: ...

    def get_added_vocab(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class Piece:
    """Text to encode as plain text, or a sentinel to encode as its one id: sentinels in user text are never special."""

    text: str
    sentinel: bool = False


@dataclass(frozen=True)
class Sentinels:
    """Names of the special tokens by which the family fills in the middle and joins files of a repository."""

    fim_prefix: str
    fim_suffix: str
    fim_middle: str
    repo_name: str | None
    file_sep: str | None


@dataclass(frozen=True)
class Family:
    """One line of models.

    model_types: values of config.json's model_type. targets: presets of module suffixes that carry an adapter.
    layer_targets: for each kind of layer, the suffixes of its linear maps, so that an uncovered kind can be told.
    keep_16bit: module suffixes that must not be quantised. document_end ends raw rows, turn_end ends chat turns.
    infill_stops: tokens at which an infill answer ends. packing: whether rows may share a sequence.
    """

    name: str
    model_types: tuple[str, ...]
    targets: Mapping[str, tuple[str, ...]]
    layer_targets: Mapping[str, tuple[str, ...]]
    keep_16bit: tuple[str, ...]
    sentinels: Sentinels | None
    document_end: str
    turn_start: str
    turn_end: str
    infill_stops: tuple[str, ...]
    packing: Capability
    chat_template_kwargs: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))

    def infill_pieces(self, prefix: str, suffix: str, context: Sequence[tuple[str, str]] = ()) -> list[Piece]:
        """The prompt that asks for the text between prefix and suffix, in prefix-suffix-middle order.

        context holds (path, text) of other files; with it the repository form is used. Raises BaseModelError when the
        family cannot fill in.
        """
        if self.sentinels is None:
            raise BaseModelError(
                f"The family {self.name} has no infill tokens.",
                "Use a base that was trained to fill in, or drop the task infill.",
            )
        names = self.sentinels
        pieces: list[Piece] = []
        for path, text in context:
            if names.file_sep:
                pieces += [Piece(names.file_sep, sentinel=True), Piece(f"{path}\n{text}")]
        return [
            *pieces,
            Piece(names.fim_prefix, sentinel=True),
            Piece(prefix),
            Piece(names.fim_suffix, sentinel=True),
            Piece(suffix),
            Piece(names.fim_middle, sentinel=True),
        ]

    def file_pieces(self, path: str, *, repo: str, first: bool) -> list[Piece]:
        """What stands above a file of a row that holds several: the family's markers, or a line with the path.

        The first of them comes under the name of the repository where the family has a marker for it. Empty path or
        repo leave their line empty.
        """
        names = self.sentinels
        if names is None or names.file_sep is None:
            return [Piece(f"# {path}\n")]
        above = [Piece(names.repo_name, sentinel=True), Piece(f"{repo}\n")] if first and names.repo_name else []
        return [*above, Piece(names.file_sep, sentinel=True), Piece(f"{path}\n")]

    def facts(self) -> FamilyFacts:
        """What an adapter's manifest carries of the family."""
        names = self.sentinels
        return FamilyFacts(
            family=self.name,
            fim_prefix=names.fim_prefix if names else None,
            fim_suffix=names.fim_suffix if names else None,
            fim_middle=names.fim_middle if names else None,
            infill_stops=self.infill_stops,
            chat_stops=(self.turn_end, self.document_end),
            thinking=bool(self.chat_template_kwargs.get("enable_thinking", False)),
        )

    def special_tokens(self) -> tuple[str, ...]:
        """Every token name that this family's rows rely on."""
        names = self.sentinels
        infill = (names.fim_prefix, names.fim_suffix, names.fim_middle) if names else ()
        joins = tuple(name for name in (names.repo_name, names.file_sep) if name) if names else ()
        return tuple(
            dict.fromkeys((self.document_end, self.turn_start, self.turn_end, *infill, *joins, *self.infill_stops))
        )

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Assert that each special token is one id here. Raises BaseModelError naming those that are not."""
        vocabulary = tokenizer.get_vocab()
        missing = [name for name in self.special_tokens() if name not in vocabulary]
        if missing:
            raise BaseModelError(
                f"The tokenizer lacks {', '.join(missing)}, which the family {self.name} relies on.",
                "Take the tokenizer that was published with this base model.",
            )


def encode_pieces(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> list[int]:
    """Token ids of pieces: a sentinel becomes its one id; text is encoded with special tokens disabled."""
    ids: list[int] = []
    for piece in pieces:
        if piece.sentinel:
            token = tokenizer.convert_tokens_to_ids(piece.text)
            assert token is not None, piece.text
            ids.append(token)
        elif piece.text:
            ids += _encode_text(tokenizer, piece.text)
    return ids


def _encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    added = tokenizer.get_added_vocab()
    if set(added.values()).isdisjoint(ids):
        return ids
    # Added tokens that are not marked special (infill and thinking tokens in the published Qwen files) are still found
    # in text, so the text is cut inside each of their names and its parts are encoded alone
    names = "|".join(re.escape(name) for name in sorted(added, key=len, reverse=True))
    cuts = [0, *(match.start() + 1 for match in re.finditer(f"(?=(?:{names}))", text)), len(text)]
    parts = (text[start:end] for start, end in pairwise(cuts))
    encoded = (tokenizer.encode(part, add_special_tokens=False, split_special_tokens=True) for part in parts)
    return [token for part_ids in encoded for token in part_ids]
