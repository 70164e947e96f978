"""Family: what the rest of the project must know of a line of models, as data."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType

from finetune.contracts.adapter import FamilyFacts
from finetune.contracts.errors import BaseModelError
from finetune.families.calls import CallForm
from finetune.families.gguf import GgufForm
from finetune.families.tokens import Capability, Sentinels, TokenForm, Tokenizer, Unsupported, choose_form


@dataclass(frozen=True)
class Piece:
    """Text to encode as plain text, or a sentinel to encode as its one id: sentinels in user text are never special."""

    text: str
    sentinel: bool = False


@dataclass(frozen=True)
class Family:
    """One line of models.

    models says in words which those are; model_types are values of config.json's model_type. targets: presets of module
    suffixes that carry an adapter, the default first. layer_targets: for each kind of layer, the suffixes of its linear
    maps, so that an uncovered kind can be told. keep_16bit: suffixes of linear maps that must not be quantised.
    tokens: the special tokens; other_tokens: what else tokenizers of these model types were published with.
    experts: suffixes of fused expert tensors (experts, out, in), targets like the others; mixture: how far they are
    served. packing: whether rows may share a sequence. refused: model types near to these that are not supported, with
    the reason. untrained: kinds of layer that no preset can reach, with the reason. absent: targets that a base of
    this text configuration does not have. wrapper: the module of the multimodal class that holds the text model, ""
    where there is none. split_experts: where a checkpoint keeps each expert apart, the end of a fused tensor's name to
    those of its parts, which lie below each other; {} is the expert. gguf: how llama.cpp names and orders it; None: an
    adapter cannot be written for it. call_forms: how bases of these model types were published to write tool calls, of
    which the chat template shows one; empty: no form is known here.
    """

    name: str
    models: str
    model_types: tuple[str, ...]
    targets: Mapping[str, tuple[str, ...]]
    layer_targets: Mapping[str, tuple[str, ...]]
    keep_16bit: tuple[str, ...]
    tokens: TokenForm
    packing: Capability
    other_tokens: tuple[TokenForm, ...] = ()
    experts: tuple[str, ...] = ()
    mixture: Capability | None = None
    chat_template_kwargs: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    untrained: Mapping[str, Unsupported] = field(default_factory=lambda: MappingProxyType({}))
    absent: Callable[[Mapping[str, object]], frozenset[str]] = lambda config: frozenset()
    wrapper: str = ""
    gguf: GgufForm | None = None
    split_experts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    call_forms: tuple[CallForm, ...] = ()

    @property
    def sentinels(self) -> Sentinels | None:
        """Names of the infill tokens; None where this base cannot fill in."""
        return self.tokens.sentinels

    @property
    def document_end(self) -> str:
        """The token that ends a raw row."""
        return self.tokens.document_end

    @property
    def turn_end(self) -> str:
        """The token that ends a chat turn."""
        return self.tokens.turn_end

    @property
    def infill_stops(self) -> tuple[str, ...]:
        """Tokens at which an infill answer ends."""
        return self.tokens.infill_stops

    def for_tokenizer(self, tokenizer: Tokenizer) -> "Family":
        """This family with the special tokens that tokenizer holds.

        Raises BaseModelError naming what is missing, or a chat template that ends its turns otherwise.
        """
        forms = (self.tokens, *self.other_tokens)
        chosen = choose_form(forms, tokenizer, family=self.name, template_kwargs=self.chat_template_kwargs)
        return replace(self, tokens=chosen, other_tokens=())

    def targets_of(self, preset: str, config: Mapping[str, object]) -> tuple[str, ...]:
        """Module suffixes of a preset that a base with this text configuration has. Raises KeyError if unknown."""
        absent = self.absent(config)
        return tuple(target for target in self.targets[preset] if target not in absent)

    def is_quantised(self, parameter: str) -> bool:
        """Whether nf4 holds the parameter of this full name in 4 bits: the weights of targets, and fused experts."""
        module, _, leaf = parameter.rpartition(".")
        suffixes = {suffix for kind in self.layer_targets.values() for suffix in kind}
        return parameter.endswith(self.experts) or (leaf == "weight" and module.rpartition(".")[2] in suffixes)

    def opening(self) -> list[Piece]:
        """What stands before the text of a raw row."""
        start = self.tokens.document_start
        return [Piece(start, sentinel=True)] if start else []

    def infill_pieces(self, prefix: str, suffix: str, context: Sequence[tuple[str, str]] = ()) -> list[Piece]:
        """The prompt that asks for the text between prefix and suffix, in prefix-suffix-middle order.

        context holds (path, text) of other files; with it the repository form is used. Raises BaseModelError when the
        family cannot fill in.
        """
        names, infill = self.tokens.sentinels, self.tokens.infill
        if names is None:
            reason = infill.reason if isinstance(infill, Unsupported) else "it has no infill tokens"
            raise BaseModelError(
                f"This base of the family {self.name} cannot fill in: {reason}.",
                "Use a base that was trained to fill in, or set data.tasks.infill and data.tasks.repo_infill to 0.",
            )
        pieces = self.opening()
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
            chat_stops=tuple(dict.fromkeys((self.turn_end, self.document_end))),
            thinking=bool(self.chat_template_kwargs.get("enable_thinking", False)),
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
