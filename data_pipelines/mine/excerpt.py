"""What a row shows of another file: the definitions that are used around the gap, then the head of the file."""

import re
from collections.abc import Iterable

from data_pipelines.document import Span
from data_pipelines.mine.card import LoadedFile
from data_pipelines.mine.context import ContextFile, head_of
from data_pipelines.mine.head import code_start
from data_pipelines.mine.row import line_range
from data_pipelines.mine.words import word_hash

TOKEN = re.compile(rb"[A-Za-z0-9_\x80-\xff]+|[^\sA-Za-z0-9_\x80-\xff]")
# a run of as many tokens in target and context would be copied, not thought of (DeepSeek-Coder's 10-gram)
RUN_TOKENS = 10
# of a definition that does not fit, the beginning is shown
MAX_PIECE_SHARE = 2
TYPE_BYTES = 600


def excerpt(
    loaded: LoadedFile, *, words: Iterable[int], leak: "Leak", max_bytes: int, least_bytes: int = 40
) -> ContextFile | None:
    """Pieces of a file, whole lines in their order; None when what is left says nothing.

    Pieces that would give the target of leak away are left out: they hold it, or a run of RUN_TOKENS of its tokens.
    """
    spans = _definitions(loaded, set(words), max_bytes=max_bytes)
    left = max_bytes - sum(span.end - span.start + 1 for span in spans)
    if left > 0:
        start, end = code_start(loaded.text), spans[0].start if spans else len(loaded.text)
        spans.insert(0, Span(start, start + len(head_of(loaded.text[start:end], left))))
    text, spans = _joined(loaded.text, spans)
    if leak.shows(text):
        text, spans = _joined(
            loaded.text, [span for span in spans if not leak.shows(loaded.text[span.start : span.end])]
        )
    if len(text.strip()) < least_bytes or leak.shows(text):
        return None
    lines = tuple(line_range(loaded.text, span.start, span.end) for span in spans)
    return ContextFile(loaded.file, text, lines)


class Leak:
    """Recognises texts that hold a target, or a run of its tokens, whatever the white space."""

    def __init__(self, target: bytes) -> None:
        tokens = TOKEN.findall(target)
        runs = [b"".join(tokens[place : place + RUN_TOKENS]) for place in range(max(1, len(tokens) - RUN_TOKENS + 1))]
        self._runs = list(dict.fromkeys(runs))

    def shows(self, text: bytes) -> bool:
        """Whether text holds one of the runs; more is recognised than is one, as where a run begins inside a word."""
        squeezed = b"".join(text.split())
        return any(run in squeezed for run in self._runs)


def _joined(text: bytes, spans: list[Span]) -> tuple[bytes, list[Span]]:
    """The spans that are not empty, and their text, a blank line between them."""
    kept = [span for span in spans if span.end > span.start]
    pieces = (text[span.start : span.end] for span in kept)
    return b"\n".join(piece if piece.endswith(b"\n") else piece + b"\n" for piece in pieces), kept


def _definitions(loaded: LoadedFile, words: set[int], *, max_bytes: int) -> list[Span]:
    """Lines of functions and types whose names are among words, as many as fit, in the order of the text."""
    picks, text = loaded.picks, loaded.text
    wanted = [_lines(text, item.whole.start, item.whole.end) for item in picks.named if _is_in(item.name, words)]
    for item in picks.types:
        if _is_in(item.name, words):
            start = text.rfind(b"\n", 0, item.whole.start) + 1
            wanted.append(Span(start, start + len(head_of(text[start:], TYPE_BYTES))))
    chosen: list[Span] = []
    left = max_bytes
    for span in sorted(wanted, key=lambda span: (span.start, -span.end)):
        start = max(span.start, chosen[-1].end) if chosen else span.start
        room = min(left, max_bytes // MAX_PIECE_SHARE)
        end = start + len(head_of(text[start : span.end], room)) if start < span.end and room > 0 else start
        if end > start:
            chosen.append(Span(start, end))
            left -= end - start + 1
    return chosen


def _lines(text: bytes, start: int, end: int) -> Span:
    line_end = text.find(b"\n", max(start, end - 1))
    return Span(text.rfind(b"\n", 0, start) + 1, len(text) if line_end < 0 else line_end + 1)


def _is_in(name: str, words: set[int]) -> bool:
    return word_hash(name.encode("utf-8")) in words
