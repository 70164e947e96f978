"""Functions that are equal but for their names, comments, docs and layout."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from data_pipelines.dedup.shingles import Words64
from data_pipelines.document import Span, Units
from data_pipelines.spans import merge, outside

# quotes, brackets of calls and separators are free to a formatter, and so is the prefix of a string: leaving them out
# takes more functions for equal than a syntax tree would, never fewer
TOKEN = re.compile(rb"[A-Za-z0-9_\x80-\xff]+|[^\sA-Za-z0-9_\x80-\xff(),;\"'`\\]")
WORD_BYTE = re.compile(rb"[A-Za-z0-9_\x80-\xff]")
PREFIX = re.compile(rb"\b[bBfFrRuU]{1,2}(?=[\"'])")
# "elif" is "else: if" to the syntax tree of Python
ELIF = re.compile(rb"\belif\b")
QUOTED = rb"(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|\"(?:[^\\\n\"]|\\.)*\"|'(?:[^\\\n']|\\.)*')"
STRING = rb"[bBrRuU]?" + QUOTED
# what Python code may hold without meaning: a string that stands alone (a docstring), a comment; strings protect a "#"
SILENT_PYTHON = re.compile(
    rb"^[ \t]*(?P<doc>" + STRING + rb")[ \t]*(?:\#[^\n]*)?$|(?P<string>" + QUOTED + rb")|(?P<comment>\#[^\n]*)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class KnownFunction:
    """Where a function stands, and its digest."""

    whole: Span
    digest: int


def function_digest(code: bytes, silent: Sequence[Span], *, name: str) -> int:
    """64 bits over the tokens of a function without the silent spans (offsets in code), and without its own name."""
    code = outside(code, Span(0, len(code)), merged=silent) if silent else code
    code = _without_name(code, name.encode("utf-8"))
    code = PREFIX.sub(b"", code)
    tokens = TOKEN.findall(ELIF.sub(b"else: if", code) if b"elif" in code else code)
    return int.from_bytes(blake2b(b"\0".join(tokens), digest_size=8).digest())


def _without_name(code: bytes, name: bytes) -> bytes:
    """The code without the first word that is the name; a pattern for each name would cost more than all the rest."""
    place = code.find(name) if name else -1
    while place >= 0:
        end = place + len(name)
        if not (WORD_BYTE.match(code, place - 1, place) if place else None) and not WORD_BYTE.match(code, end, end + 1):
            return code[:place] + b" " + code[end:]
        place = code.find(name, end)
    return code


def functions_of(text: bytes, units: Units, *, language: str) -> list[KnownFunction]:
    """Every named function of a text, in order, whatever its size."""
    merged = merge([*units.silent, *(python_silence(text) if language == "python" else ())])
    starts, ends = [span.start for span in merged], [span.end for span in merged]
    found = []
    for function in units.named:
        whole = function.whole
        inside = [
            Span(max(span.start, whole.start) - whole.start, min(span.end, whole.end) - whole.start)
            for span in merged[bisect_right(ends, whole.start) : bisect_left(starts, whole.end)]
        ]
        found.append(KnownFunction(whole, function_digest(text[whole.start : whole.end], inside, name=function.name)))
    return found


def python_silence(text: bytes) -> list[Span]:
    """Comments, and strings that stand alone on their lines."""
    return [
        Span(*match.span(match.lastgroup))
        for match in SILENT_PYTHON.finditer(text)
        if match.lastgroup and match.lastgroup != "string"
    ]


def digests(functions: Iterable[KnownFunction]) -> Words64:
    """Their digests, sorted, each once."""
    return np.unique(np.fromiter((function.digest for function in functions), np.uint64))


def touched(functions: Iterable[KnownFunction], span: Span) -> Words64:
    """Digests of the functions that a target lies in, holds or cuts."""
    return digests(
        function for function in functions if function.whole.start < span.end and function.whole.end > span.start
    )


def changed(before: Iterable[KnownFunction], after: Iterable[KnownFunction]) -> Words64:
    """Digests of the functions that an edit makes: those of the text after that the text before does not have."""
    old = {function.digest for function in before}
    return digests(function for function in after if function.digest not in old)


@dataclass(frozen=True, slots=True)
class FunctionLines:
    """The lines of a function, 1-based and inclusive, and its digest."""

    first: int
    last: int
    digest: int


def pack_functions(text: bytes, functions: Sequence[KnownFunction]) -> bytes:
    """Lines and digests of the functions of a text, to be kept beside it."""
    breaks = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    rows = np.empty((len(functions), 3), "<u8")
    rows[:, 0] = np.searchsorted(breaks, [function.whole.start for function in functions]) + 1
    rows[:, 1] = np.searchsorted(breaks, [max(function.whole.start, function.whole.end - 1) for function in functions])
    rows[:, 1] += 1
    rows[:, 2] = [function.digest for function in functions]
    return rows.tobytes()


def unpack_functions(content: bytes) -> list[FunctionLines]:
    """What pack_functions wrote."""
    return [FunctionLines(*row) for row in np.frombuffer(content, "<u8").reshape(-1, 3).tolist()]


def on_lines(functions: Iterable[FunctionLines], first: int, last: int) -> Words64:
    """Digests of the functions that have one of the lines, sorted, each once."""
    found = {function.digest for function in functions if function.first <= last and function.last >= first}
    return np.array(sorted(found), np.uint64)
