"""JSON records from files of any size, one at a time: arrays, arrays one after the other, lines, and one big object."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import JsonValue

SUFFIXES = frozenset((".json", ".jsonl", ".ndjson"))
LINE_SUFFIXES = frozenset((".jsonl", ".ndjson"))
READ_CHARS = 1 << 16
# a merge request with all its notes and diffs stays far below this
MAX_RECORD_CHARS = 64 << 20
SPACE = " \t\r\n"
NOT_JSON, TOO_LARGE = "the record is no JSON", "the record is larger than 64 MiB"


@dataclass(frozen=True, slots=True)
class Record:
    """A value and its number in the file from 1; key is the name it stands under in one big object, "" elsewhere.

    reason says why there is no value, "" when there is one.
    """

    number: int
    value: JsonValue
    key: str = ""
    reason: str = ""


class _Broken(Exception):
    """The text is no JSON from here on; the text of the error is the reason."""


def read_records(path: Path, *, members: bool = False) -> Iterator[Record]:
    """The records of a file. With members a top-level object is not one record: the items of its arrays are.

    A line that is broken costs that line; a broken array or object ends the file. Raises OSError.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as stream:
        yield from _lines(stream) if path.suffix in LINE_SUFFIXES else _Values(stream, members=members).records()


def _lines(stream: IO[str]) -> Iterator[Record]:
    number = 0
    while line := stream.readline(MAX_RECORD_CHARS):
        if not line.strip():
            continue
        number += 1
        if len(line) == MAX_RECORD_CHARS and not line.endswith("\n"):
            while (rest := stream.readline(READ_CHARS)) and not rest.endswith("\n"):
                continue
            yield Record(number, None, reason=TOO_LARGE)
            continue
        yield from _line(line, number)


def _line(line: str, number: int) -> Iterator[Record]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        yield Record(number, None, reason=NOT_JSON)
        return
    # some tools write a page, an array, per line
    for item in value if isinstance(value, list) else [value]:
        yield Record(number, item)


class _Values:
    """A window over the text that grows until the value at its start is whole."""

    def __init__(self, stream: IO[str], *, members: bool) -> None:
        self._stream = stream
        self._members = members
        self._text = ""
        self._place = 0
        self._ended = False
        self._decoder = json.JSONDecoder()
        self._number = 0

    def records(self) -> Iterator[Record]:
        """All records; one with the reason where the text breaks off."""
        try:
            while char := self._next():
                if char == "[":
                    yield from self._array("")
                elif char == "{" and self._members:
                    yield from self._object()
                else:
                    yield self._record(self._value(), "")
        except _Broken as broken:
            yield Record(self._number + 1, None, reason=str(broken))

    def _record(self, value: JsonValue, key: str) -> Record:
        self._number += 1
        return Record(self._number, value, key)

    def _array(self, key: str) -> Iterator[Record]:
        self._place += 1
        while (char := self._next()) != "]":
            if char == ",":
                self._place += 1
                continue
            yield self._record(self._value(), key)
        self._place += 1

    def _object(self) -> Iterator[Record]:
        self._place += 1
        while (char := self._next()) != "}":
            if char == ",":
                self._place += 1
                continue
            name = self._value()
            if not isinstance(name, str) or self._next() != ":":
                raise _Broken(NOT_JSON)
            self._place += 1
            if self._next() == "[":
                yield from self._array(name)
            else:
                self._value()
        self._place += 1

    def _next(self) -> str:
        """The next character that is no space, "" at the end of the file."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in SPACE:
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._grow(READ_CHARS):
                return ""

    def _value(self) -> JsonValue:
        while True:
            found = self._decoded()
            # a number is whole only when what follows it is seen
            if found is not None and (found[1] < len(self._text) or self._ended):
                self._place = found[1]
                return found[0]
            if len(self._text) - self._place > MAX_RECORD_CHARS:
                raise _Broken(TOO_LARGE)
            # twice as much each time, so that a large value is not decoded over and over
            if not self._grow(max(READ_CHARS, len(self._text) - self._place)):
                raise _Broken(NOT_JSON)

    def _decoded(self) -> tuple[JsonValue, int] | None:
        try:
            return self._decoder.raw_decode(self._text, self._place)
        except RecursionError:
            raise _Broken(NOT_JSON) from None
        except ValueError:
            return None

    def _grow(self, num_chars: int) -> bool:
        if self._ended:
            return False
        more = self._stream.read(num_chars)
        self._ended = not more
        self._text, self._place = self._text[self._place :] + more, 0
        return True
