"""Documents to training rows: half of them infill, some of several files, some chat; packed to one length."""

import ast
import math
import random
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.embedded.corpus import Document
from finetune.embedded.tokenizer import END, Encoder

# Share of the text in rows of several files, where half is infill; the rest is plain text of one file.
REPOSITORY_SHARE = 0.1
# Of the documents: about half of the text of one lies in functions with docstrings.
CHAT_SHARE = 0.1
# Windows of plain text in characters, least and most.
WINDOW = (200, 3_000)
# Weight of a gap's tokens in the loss: they are a twentieth of the text, and the only ones that teach to fill.
GAP_WEIGHT = 4.0
# Shares of the gaps by kind; the rest is any run of characters.
WORD_SHARE = 0.3
TAIL_SHARE = 0.3
LINES_SHARE = 0.1
LINE_SHARE = 0.2
SPACE_SHARE = 0.5
# Of the infill rows: those with another file of the package before the gap.
CONTEXT_SHARE = 0.1
MAX_SPAN_LINES = 6
MAX_SPAN_CHARACTERS = 300
MAX_REPOSITORY_FILES = 4
MAX_FUNCTION_CHARACTERS = 1_500
REPOSITORY_FILE_CHARACTERS = 800
# A word with what joins it to the line before it: where a tokenizer of this kind begins a token
WORD = re.compile(r"[^\w\s]?\b[^\W\d]\w*| [^\W\d]\w*")


@dataclass(frozen=True)
class Mix:
    """How much of the text is in infill rows, and how long their windows are, in characters.

    They are shorter than the others: a gap is a few per cent of its window, and a small model needs many gaps.
    """

    infill_share: float
    infill_window: tuple[int, int]


# First as much of other text as of infill, then mostly infill in shorter windows: three times as many gaps a step.
EVEN = Mix(infill_share=0.5, infill_window=(80, 1_600))
INFILL_HEAVY = Mix(infill_share=0.8, infill_window=(40, 800))


class RowMaker:
    """Turns documents into token sequences, each ended by <|endoftext|>; seeded."""

    def __init__(self, documents: Sequence[Document], encoder: Encoder, *, seed: int, mix: Mix = EVEN) -> None:
        self._mix = mix
        self._random = random.Random(seed)
        self._documents = list(documents)
        self._encoder = encoder
        self._random.shuffle(self._documents)

    def packed(self, num_rows: int, num_tokens: int) -> "np.ndarray[Any, np.dtype[np.uint16]]":
        """num_rows rows of num_tokens ids: sequences in a row one after the other, the first after an end token."""
        rows = np.empty(num_rows * num_tokens, dtype=np.uint16)
        rows[0], filled = self._encoder.special[END], 1
        for ids in self._sequences():
            piece = ids[: len(rows) - filled]
            rows[filled : filled + len(piece)] = piece
            filled += len(piece)
            if filled == len(rows):
                break
        return rows.reshape(num_rows, num_tokens)

    def _sequences(self) -> Iterator[list[int]]:
        while True:
            for number, document in enumerate(self._documents):
                yield from self._of_document(number, document)

    def _of_document(self, number: int, document: Document) -> Iterator[list[int]]:
        """Each part of a document becomes one kind of row, so that no text is repeated within a pass."""
        if self._random.random() < CHAT_SHARE:
            yield from self._chat(document)
            return
        for is_infill, window in self._windows(document.text):
            if is_infill:
                yield self._infill(number, document, window)
            elif self._random.random() / 2 < REPOSITORY_SHARE:
                yield self._repository(number, document, window)
            else:
                yield [*self._encoder.encode(window), self._encoder.special[END]]

    def _windows(self, text: str) -> Iterator[tuple[bool, str]]:
        """(is for infill, text) of each run of whole lines; the last one may be too short to be of use."""
        window = ""
        is_infill, limit = self._next_window()
        for line in text.splitlines(keepends=True):
            window += line
            if len(window) >= limit:
                yield is_infill, window
                window = ""
                is_infill, limit = self._next_window()
        if len(window) >= self._mix.infill_window[0]:
            yield is_infill, window

    def _next_window(self) -> tuple[bool, int]:
        # by text, not by count: the chance of a kind is its share over the mean length of its windows
        low, high = self._mix.infill_window
        infill = self._mix.infill_share / ((high - low) / math.log(high / low))
        other = (1 - self._mix.infill_share) / (sum(WINDOW) / 2)
        is_infill = self._random.random() < infill / (infill + other)
        # log-uniform: most gaps have little text around them, some have what an editor would send
        size = round(low * (high / low) ** self._random.random()) if is_infill else self._random.randint(*WINDOW)
        return is_infill, size

    def _infill(self, number: int, document: Document, window: str) -> list[int]:
        start, end = choose_span(window, self._random)
        special, encode = self._encoder.special, self._encoder.encode
        others = self._others(number, document, 1) if self._random.random() < CONTEXT_SHARE else []
        return [
            *others,
            special["<|fim_prefix|>"],
            *encode(window[:start]),
            special["<|fim_suffix|>"],
            *encode(window[end:]),
            special["<|fim_middle|>"],
            *encode(window[start:end]),
            special[END],
        ]

    def _repository(self, number: int, document: Document, window: str) -> list[int]:
        special, encode = self._encoder.special, self._encoder.encode
        others = self._others(number, document, self._random.randint(1, MAX_REPOSITORY_FILES - 1))
        return [
            special["<|repo_name|>"],
            *encode(document.package + "\n"),
            *others,
            special["<|file_sep|>"],
            *encode(f"{document.path}\n{window}"),
            special[END],
        ]

    def _others(self, number: int, document: Document, num_files: int) -> list[int]:
        """Ids of up to num_files other files of the document's package, each cut short."""
        ids: list[int] = []
        for other in self._documents[number + 1 : number + 400]:
            if num_files == 0:
                break
            if other.package == document.package and len(other.text) < WINDOW[1]:
                num_files -= 1
                ids.append(self._encoder.special["<|file_sep|>"])
                ids += self._encoder.encode(f"{other.path}\n{other.text[:REPOSITORY_FILE_CHARACTERS]}")
        return ids

    def _chat(self, document: Document) -> Iterator[list[int]]:
        special, encode = self._encoder.special, self._encoder.encode
        for instruction, answer in functions_of(document.text):
            yield [
                special["<|im_start|>"],
                *encode(f"user\n{instruction}"),
                special["<|im_end|>"],
                *encode("\n"),
                special["<|im_start|>"],
                *encode("assistant\n"),
                special["<think>"],
                *encode("\n\n"),
                special["</think>"],
                *encode(f"\n\n{answer}"),
                special["<|im_end|>"],
                *encode("\n"),
                special[END],
            ]


def gap_weights(
    rows: "np.ndarray[Any, np.dtype[np.uint16]]", *, middle: int, end: int
) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Loss weights [rows, tokens - 1] of the targets rows[:, 1:]: GAP_WEIGHT from <|fim_middle|> to the end, else 1."""
    place = np.arange(rows.shape[1])[None, :]
    last_middle, last_end = (
        np.maximum.accumulate(np.where(rows == token, place, -1), axis=1)[:, :-1] for token in (middle, end)
    )
    return np.where(last_middle > last_end, np.float32(GAP_WEIGHT), np.float32(1.0))


def choose_span(text: str, draw: random.Random) -> tuple[int, int]:
    """Character range to hide, never empty: a word, the rest of a line, a line, some lines, or anything.

    A gap that is empty, such as a blank line, would teach the model to answer with nothing at all.
    """
    lines = content_lines(text)
    kind = draw.random()
    if lines and kind < WORD_SHARE + TAIL_SHARE + LINES_SHARE + LINE_SHARE:
        first = draw.randrange(len(lines))
        begin, end = lines[first]
        if kind < WORD_SHARE:
            return draw.choice(words(text, begin, end) or [(begin, end)])
        if kind < WORD_SHARE + TAIL_SHARE:
            begin = draw.choice(tails(text, begin, end))
        elif kind < WORD_SHARE + TAIL_SHARE + LINES_SHARE:
            end = lines[min(first + draw.randint(1, MAX_SPAN_LINES - 1), len(lines) - 1)][1]
        # half of the time from the last space of the indentation, which a tokenizer of this kind joins to the word
        return begin - (begin > 0 and text[begin - 1] == " " and draw.random() < SPACE_SHARE), end
    start = draw.randrange(len(text))
    return start, min(start + draw.randint(1, MAX_SPAN_CHARACTERS), len(text))


def words(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Ranges of the words of a line, each with the character that joins it to what stands before."""
    return [match.span() for match in WORD.finditer(text, start, end)]


def tails(text: str, start: int, end: int) -> list[int]:
    """Where the rest of a line may begin, its start included: ahead of each word and of the character joining it."""
    return [start, *(begin for begin, _ in words(text, start + 1, end))]


def content_lines(text: str) -> list[tuple[int, int]]:
    """Character ranges of the lines that are not blank, without indentation and trailing space."""
    ranges, offset = [], 0
    for line in text.splitlines(keepends=True):
        content = line.strip()
        if content:
            start = offset + len(line) - len(line.lstrip())
            ranges.append((start, start + len(content)))
        offset += len(line)
    return ranges


def functions_of(text: str) -> list[tuple[str, str]]:
    """(instruction, function) for each short function with a docstring in source that parses, else nothing."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    lines = text.splitlines(keepends=True)
    pairs = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) and len(node.body) > 1:
            source = _dedented(lines[node.lineno - 1 : node.end_lineno])
            told = _dedented(lines[node.lineno - 1 : node.body[0].end_lineno])
            if len(source) <= MAX_FUNCTION_CHARACTERS:
                pairs.append((f"Write this function.\n\n```python\n{told}\n```", source))
    return pairs


def _dedented(lines: Sequence[str]) -> str:
    return textwrap.dedent("".join(lines)).rstrip()
