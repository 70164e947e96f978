"""Documents of one file or several as token ids, cut into rows; each token of the files is learned exactly once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune.contracts.dataset import Example, Role
from finetune.families.base import Family, encode_pieces


@dataclass(frozen=True)
class DocumentRow:
    """ids[k] is learned where learned[k]. loss_bytes is the UTF-8 size of the learned text, end tokens not counted."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]
    loss_bytes: int


@dataclass(frozen=True)
class _Span:
    """Tokens [start, end) of the document that are the text of one file, of num_bytes."""

    start: int
    end: int
    num_bytes: int


class Document:
    """The files of a pretrain example: one alone is its text; several stand under their paths in the family's form.

    ids begin with the family's start token, if it has one, and end with the end token. Markers and paths are not
    learned, nor is the very first token, which has none before.
    """

    def __init__(self, tokenizer: Any, family: Family, example: Example, *, texts: Sequence[list[int]], end: int):
        files = [part for part in example.segments if part.role is Role.TARGET]
        self._tokenizer = tokenizer
        self.ids: list[int] = encode_pieces(tokenizer, family.opening())
        self._spans: list[_Span] = []
        repo = example.provenance[0].repo if example.provenance else ""
        for place, (part, ids) in enumerate(zip(files, texts, strict=True)):
            if len(files) > 1:
                pieces = family.file_pieces(part.path or "", repo=repo, first=place == 0)
                self.ids += encode_pieces(tokenizer, pieces)
            self._spans.append(_Span(len(self.ids), len(self.ids) + len(ids), len(part.text.encode("utf-8"))))
            self.ids += ids
        self.num_text_tokens = sum(map(len, texts))
        self.ids.append(end)

    def rows(self, max_tokens: int) -> list[DocumentRow]:
        """Rows of at most max_tokens. They overlap by one token, which is masked in the later one."""
        learned = self._learned()
        starts = range(0, len(self.ids) - 1, max_tokens - 1)
        rows = []
        for start in starts:
            end = min(start + max_tokens, len(self.ids))
            loss_bytes = sum(
                self._bytes_before(span, end) - self._bytes_before(span, start + 1) for span in self._spans
            )
            mask = (False, *learned[start + 1 : end])
            rows.append(DocumentRow(tuple(self.ids[start:end]), mask, loss_bytes))
        return [row for row in rows if any(row.learned)]

    def _learned(self) -> list[bool]:
        learned = [False] * len(self.ids)
        for span in self._spans:
            learned[span.start : span.end] = [True] * (span.end - span.start)
        learned[-1] = True
        return learned

    def _bytes_before(self, span: _Span, end: int) -> int:
        if end >= span.end:
            return span.num_bytes
        ids = self.ids[span.start : max(span.start, end)]
        text = self._tokenizer.decode(ids, clean_up_tokenization_spaces=False) if ids else ""
        return min(span.num_bytes, len(text.encode("utf-8")))
