"""The special tokens by which a family writes: chosen by name from what a tokenizer holds, never by id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from finetune.contracts.errors import BaseModelError

TOKENIZER_HINT = "Take the tokenizer that was published with this base model."
ANSWER = "answer-text-91c2f0aa"


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

    @property
    def chat_template(self) -> str | None: ...

    def encode(self, text: str, *, add_special_tokens: bool = ..., split_special_tokens: bool = ...) -> list[int]: ...

    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...

    def get_vocab(self) -> dict[str, int]: ...

    def get_added_vocab(self) -> dict[str, int]: ...

    def apply_chat_template(self, conversation: Any, *, tokenize: bool, **kwargs: Any) -> Any: ...


@dataclass(frozen=True)
class Sentinels:
    """Names of the special tokens by which a base fills in the middle and joins files of a repository.

    A prompt is fim_prefix, text before, fim_suffix, text after, fim_middle. None: the base has no such marker.
    """

    fim_prefix: str
    fim_suffix: str
    fim_middle: str
    repo_name: str | None = None
    file_sep: str | None = None

    def names(self) -> tuple[str, ...]:
        """Every name, those that are None left out."""
        joins = (name for name in (self.repo_name, self.file_sep) if name)
        return (self.fim_prefix, self.fim_suffix, self.fim_middle, *joins)


@dataclass(frozen=True)
class TokenForm:
    """One set of special tokens. A family has several where its model type was published with several tokenizers.

    name is for people. document_start stands before each raw row, None: nothing does. document_end ends raw rows,
    turn_end ends chat turns; turn_start opens them, None: plain text does. sentinels None: no infill, infill says why.
    infill_stops: tokens at which an infill answer ends.
    """

    name: str
    document_start: str | None
    document_end: str
    turn_start: str | None
    turn_end: str
    infill: Capability
    sentinels: Sentinels | None = None
    infill_stops: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Every token name that rows in this form rely on."""
        ends = (self.document_start, self.document_end, self.turn_start, self.turn_end)
        infill = self.sentinels.names() if self.sentinels else ()
        return tuple(dict.fromkeys(name for name in (*ends, *infill, *self.infill_stops) if name))

    def missing(self, tokenizer: Tokenizer) -> tuple[str, ...]:
        """Those of its names that are not one token of tokenizer."""
        vocabulary = tokenizer.get_vocab()
        return tuple(name for name in self.names() if name not in vocabulary)


def choose_form(
    forms: Sequence[TokenForm], tokenizer: Tokenizer, *, family: str, template_kwargs: Mapping[str, bool]
) -> TokenForm:
    """The first of forms whose tokens tokenizer holds and whose turns its chat template ends as the form says.

    Raises BaseModelError naming the tokens that the likeliest form lacks, or how the template ends an answer instead.
    """
    whole = [form for form in forms if not form.missing(tokenizer)]
    if not whole:
        lacks = min((form.missing(tokenizer) for form in forms), key=len)
        raise BaseModelError(
            f"The tokenizer lacks {', '.join(lacks)}, which the family {family} relies on.", TOKENIZER_HINT
        )
    ending = _answer_ending(tokenizer, template_kwargs)
    for form in whole:
        if ending is None or ending.startswith(form.turn_end):
            return form
    expected = " or ".join(dict.fromkeys(form.turn_end for form in whole))
    raise BaseModelError(
        f"The chat template ends an answer with {ending[:40] if ending else 'nothing'!r}; the family {family} ends it "
        f"with {expected}: an adapter would never learn to stop.",
        TOKENIZER_HINT,
    )


def _answer_ending(tokenizer: Tokenizer, template_kwargs: Mapping[str, bool]) -> str | None:
    """What the chat template writes after an answer, white space before it dropped; None without a template."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": ANSWER}]
    rendered = str(tokenizer.apply_chat_template(turns, tokenize=False, **template_kwargs))
    return rendered.rpartition(ANSWER)[2].lstrip()
