"""Examples to rows of token ids and labels. Our own end tokens and masks; whatever does not fit is counted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetune.contracts.dataset import INFILL_TASKS, Example, ReasonCount, Role, Task
from finetune.families.base import Family, Piece, encode_pieces
from finetune.render.chat import ChatPrompt, chat_content
from finetune.render.infill import infill_prompt, text_of
from finetune.render.pretrain import Document

MASKED = -100
STAGE = "render"


@dataclass(frozen=True)
class TokenRow:
    """One sequence. input_ids and labels are (seq,); labels hold -100 where nothing is learned.

    labels[i] is input_ids[i] or -100 (the shift by one happens in the loss), so labels[0] is always -100.
    num_loss_tokens counts the labels that are learned; loss_bytes is the UTF-8 size of their text, end tokens not
    counted. truncated: part of the prompt or of the document is not in this row.
    """

    example_id: str
    task: Task
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    num_loss_tokens: int
    loss_bytes: int
    truncated: bool = False


class Renderer:
    """Renders examples for one family and counts, over its life, what it cut or left out."""

    def __init__(self, tokenizer: Any, family: Family, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self.max_tokens = max_tokens
        self._document_end = _token_id(tokenizer, family.document_end)
        self._turn_end = _token_id(tokenizer, family.turn_end)
        self._chat: ChatPrompt | None = None
        self._reasons: Counter[str] = Counter()

    def rows(self, example: Example) -> list[TokenRow]:
        """All rows of an example: one, several for a long pretrain document, none when it was dropped (and counted)."""
        if example.task in INFILL_TASKS:
            return list(self._infill(example))
        return list(self._pretrain(example) if example.task is Task.PRETRAIN else self._chat_row(example))

    def row(self, example: Example) -> TokenRow | None:
        """The first of rows(example), for callers that need one each; None when the example was dropped."""
        found = self.rows(example)
        return found[0] if found else None

    def reasons(self) -> tuple[ReasonCount, ...]:
        """What was cropped, split, dropped or changed so far, by reason."""
        return tuple(ReasonCount(stage=STAGE, reason=name, count=self._reasons[name]) for name in sorted(self._reasons))

    def prompt(self, example: Example, *, reserve_tokens: int) -> list[int] | None:
        """Token ids before the answer, leaving reserve_tokens of max_tokens free; None where that cannot be.

        Not for pretrain, which has no prompt.
        """
        room = self.max_tokens - reserve_tokens
        if example.task in INFILL_TASKS:
            found = infill_prompt(self.tokenizer, self.family, example, max_tokens=room)
            return found.token_ids if found else None
        assert example.task is not Task.PRETRAIN
        ids = self._chat_prompt(example)
        return ids if len(ids) <= room else None

    def _infill(self, example: Example) -> Iterator[TokenRow]:
        answer = [*self._encode(text_of(example, Role.TARGET)), self._document_end]
        prompt = infill_prompt(self.tokenizer, self.family, example, max_tokens=self.max_tokens - len(answer))
        if prompt is None:
            self._reasons["infill row dropped: its target alone exceeds max_tokens"] += 1
            return
        if prompt.cropped:
            self._reasons["infill row kept, its prompt cropped far from the gap"] += 1
        if prompt.num_context_left_out:
            self._reasons["infill row kept, files of its context left out"] += 1
        truncated = prompt.cropped or prompt.num_context_left_out > 0
        yield self._answer_row(example, prompt.token_ids, answer, role=Role.TARGET, truncated=truncated)

    def _chat_row(self, example: Example) -> Iterator[TokenRow]:
        prompt = self._chat_prompt(example)
        answer = [*self._encode(text_of(example, Role.ANSWER)), self._turn_end]
        if len(prompt) + len(answer) > self.max_tokens:
            self._reasons[f"{example.task} row dropped: longer than max_tokens"] += 1
            return
        yield self._answer_row(example, prompt, answer, role=Role.ANSWER, truncated=False)

    def _pretrain(self, example: Example) -> Iterator[TokenRow]:
        texts = [self._encode(part.text) for part in example.segments if part.role is Role.TARGET]
        document = Document(self.tokenizer, self.family, example, texts=texts, end=self._document_end)
        if not document.num_text_tokens:
            self._reasons["pretrain row dropped: it has no text"] += 1
            return
        rows = document.rows(self.max_tokens)
        if len(rows) > 1:
            self._reasons["pretrain document split into several rows, all kept"] += 1
        for row in rows:
            yield TokenRow(
                example_id=example.id,
                task=example.task,
                input_ids=row.ids,
                labels=tuple(token if learned else MASKED for token, learned in zip(row.ids, row.learned, strict=True)),
                num_loss_tokens=sum(row.learned),
                loss_bytes=row.loss_bytes,
                truncated=len(rows) > 1,
            )

    def _answer_row(
        self, example: Example, prompt: list[int], answer: list[int], *, role: Role, truncated: bool
    ) -> TokenRow:
        assert prompt, "an answer needs a token before it"
        return TokenRow(
            example_id=example.id,
            task=example.task,
            input_ids=(*prompt, *answer),
            labels=(*[MASKED] * len(prompt), *answer),
            num_loss_tokens=len(answer),
            loss_bytes=_num_bytes(text_of(example, role)),
            truncated=truncated,
        )

    def _chat_prompt(self, example: Example) -> list[int]:
        if self._chat is None:
            self._chat = ChatPrompt(self.tokenizer, self.family)
        return self._chat.token_ids(chat_content(example))

    def _encode(self, text: str) -> list[int]:
        ids = encode_pieces(self.tokenizer, [Piece(text)])
        # Pure ASCII has no other spelling, so only the rest can be altered by the tokenizer's Unicode normaliser
        if not text.isascii() and self.tokenizer.decode(ids, clean_up_tokenization_spaces=False) != text:
            self._reasons["row kept, its Unicode spelling changed by the tokenizer (NFC)"] += 1
        return ids


def _token_id(tokenizer: Any, name: str) -> int:
    token = tokenizer.convert_tokens_to_ids(name)
    assert token is not None, name
    return int(token)


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8"))
