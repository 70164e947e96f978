"""Documents to training rows: half of them infill, some of several files, some chat; packed to one length."""

import ast
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from finetune.embedded.corpus import Document
from finetune.embedded.tokenizer import END, Encoder

# Shares of the rows by kind; the rest is plain text of one file.
INFILL_SHARE = 0.5
REPOSITORY_SHARE = 0.1
CHAT_SHARE = 0.05
# Shares of the gaps by kind; the rest is any run of characters.
LINE_SHARE = 0.6
TAIL_SHARE = 0.1
LINES_SHARE = 0.2
MAX_WINDOW_CHARACTERS = 3_000
MIN_WINDOW_CHARACTERS = 200
MAX_SPAN_LINES = 8
MAX_SPAN_CHARACTERS = 300
MAX_REPOSITORY_FILES = 4


class RowMaker:
    """Turns documents into token sequences, each ended by <|endoftext|>; seeded."""

    def __init__(self, documents: Sequence[Document], encoder: Encoder, *, seed: int) -> None:
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
        for window in self._windows(document.text):
            draw = self._random.random()
            if draw < INFILL_SHARE:
                yield self._infill(document, window)
            elif draw < INFILL_SHARE + REPOSITORY_SHARE:
                yield self._repository(number, document, window)
            elif draw < INFILL_SHARE + REPOSITORY_SHARE + CHAT_SHARE:
                yield from self._chat(window)
            else:
                yield [*self._encoder.encode(window), self._encoder.special[END]]

    def _windows(self, text: str) -> Iterator[str]:
        lines, window, size = text.splitlines(keepends=True), [], 0
        limit = self._random.randint(MIN_WINDOW_CHARACTERS, MAX_WINDOW_CHARACTERS)
        for line in lines:
            window.append(line)
            size += len(line)
            if size >= limit:
                yield "".join(window)
                window, size = [], 0
                limit = self._random.randint(MIN_WINDOW_CHARACTERS, MAX_WINDOW_CHARACTERS)
        if size >= MIN_WINDOW_CHARACTERS:
            yield "".join(window)

    def _infill(self, document: Document, window: str) -> list[int]:
        start, end = choose_span(window, self._random)
        special, encode = self._encoder.special, self._encoder.encode
        head = [special["<|file_sep|>"], *encode(document.path + "\n")] if self._random.random() < 0.1 else []
        return [
            *head,
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
        ids = [special["<|repo_name|>"], *encode(document.package + "\n")]
        others = [
            other
            for other in self._documents[number + 1 : number + 400]
            if other.package == document.package and len(other.text) < MAX_WINDOW_CHARACTERS
        ]
        for other in others[: self._random.randint(1, MAX_REPOSITORY_FILES - 1)]:
            ids += [special["<|file_sep|>"], *encode(f"{other.path}\n{other.text[: MIN_WINDOW_CHARACTERS * 4]}")]
        return [*ids, special["<|file_sep|>"], *encode(f"{document.path}\n{window}"), special[END]]

    def _chat(self, window: str) -> Iterator[list[int]]:
        special, encode = self._encoder.special, self._encoder.encode
        for instruction, answer in functions_of(window)[:2]:
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


def choose_span(text: str, draw: random.Random) -> tuple[int, int]:
    """Character range to hide, never empty: a line after its indentation, its tail, some lines, or anything.

    A gap that is empty, such as a blank line, would teach the model to answer with nothing at all.
    """
    lines = content_lines(text)
    kind = draw.random()
    if lines and kind < LINE_SHARE + TAIL_SHARE + LINES_SHARE:
        first = draw.randrange(len(lines))
        begin, end = lines[first]
        if kind < TAIL_SHARE:
            begin = draw.randrange(begin, end)
        elif kind < TAIL_SHARE + LINES_SHARE:
            end = lines[min(first + draw.randint(1, MAX_SPAN_LINES - 1), len(lines) - 1)][1]
        return begin, end
    start = draw.randrange(len(text))
    return start, min(start + draw.randint(1, MAX_SPAN_CHARACTERS), len(text))


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
    """(instruction, function) for each function with a docstring in a piece of source that parses, else nothing."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    pairs = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node)):
            source = ast.get_source_segment(text, node)
            if source and len(node.body) > 1:
                header = source.split(":\n")[0] + ":"
                pairs.append((f'Write this function.\n\n```python\n{header}\n    """{docstring}"""\n```', source))
    return pairs
