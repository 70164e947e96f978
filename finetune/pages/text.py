"""Text of repositories and models as HTML that does nothing: escaped, invisible characters made visible, cut to a size.

What a reader sees is what the file holds, in the order in which it holds it: a character that reorders, hides or breaks
text is shown by its code point in brackets.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from markupsafe import Markup, escape

Mark: TypeAlias = Callable[[str], Markup]

# signs that are never odd, of which most texts are made
PLAIN = re.compile(r"[ -~\n\t]*")
LINE_CHARS = 240
NAME_CHARS = 160
# controls, formats (bidirectional ones among them), surrogates, private and unassigned ones, line separators
ODD_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# letters and symbols without ink: Hangul fillers and the empty Braille cell
WITHOUT_INK = frozenset("\u115f\u1160\u3164\uffa0\u2800")
# no script needs more marks over one letter; a hundred of them cover the lines around
MARKS_PER_LETTER = 3
SHOWN_ODD = 12
# a file with Windows line ends has one on each line
SHORT_NAMES = {"\r": "CR"}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A piece of a text as HTML, and how many of its lines are not shown."""

    html: Markup
    hidden_lines: int


def harmless(text: str, *, mark: Mark = escape) -> Markup:
    """All of a text as HTML. mark turns a piece without odd characters into HTML, and must escape it."""
    if PLAIN.fullmatch(text):
        return mark(text)
    parts = []
    for odd, run in groupby(_judged(text), key=lambda pair: pair[0]):
        piece = "".join(sign for _, sign in run)
        parts.append(_odd(piece) if odd else mark(piece))
    return Markup("").join(parts)


def name(text: str, *, mark: Mark = escape) -> Markup:
    """A path, a name or another short text in one line, the middle left out where it is long."""
    if len(text) > NAME_CHARS:
        half = NAME_CHARS // 2
        cut = Markup('<span class="cut">…</span>')
        return harmless(text[:half], mark=mark) + cut + harmless(text[-half:], mark=mark)
    return harmless(text, mark=mark)


def excerpt(text: str, *, max_lines: int, max_chars: int, end: bool = False, mark: Mark = escape) -> Excerpt:
    """The beginning of a text, or its end: whole lines up to max_lines, about max_chars of HTML, long lines cut.

    The line at the chosen edge is always shown, so the HTML may exceed max_chars by one line.
    """
    lines = text.split("\n")
    if end:
        lines.reverse()
    shown: list[Markup] = []
    size = 0
    for line in lines[:max_lines]:
        html = _line(line, keep_end=end, mark=mark)
        size += len(html) + 1
        if shown and size > max_chars:
            break
        shown.append(html)
    hidden = len(lines) - len(shown)
    if end:
        shown.reverse()
    return Excerpt(Markup("\n").join(shown), hidden)


def _line(line: str, *, keep_end: bool, mark: Mark) -> Markup:
    over = len(line) - LINE_CHARS
    if over <= 0:
        return harmless(line, mark=mark)
    cut = Markup('<span class="cut">… {} characters …</span>').format(f"{over:,}")
    return cut + harmless(line[over:], mark=mark) if keep_end else harmless(line[:LINE_CHARS], mark=mark) + cut


def _judged(text: str) -> Iterator[tuple[bool, str]]:
    marks = 0
    for sign in text:
        if " " <= sign <= "~" or sign in "\n\t":
            marks = 0
            yield False, sign
            continue
        category = unicodedata.category(sign)
        marks = marks + 1 if category.startswith("M") else 0
        odd = category in ODD_CATEGORIES or category == "Zs" or sign in WITHOUT_INK or marks > MARKS_PER_LETTER
        yield odd, sign


def _odd(piece: str) -> Markup:
    codes = "".join(f"[{SHORT_NAMES.get(sign, f'U+{ord(sign):04X}')}]" for sign in piece[:SHOWN_ODD])
    more = f"[{len(piece) - SHOWN_ODD:,} more]" if len(piece) > SHOWN_ODD else ""
    return Markup('<span class="odd">{}</span>').format(codes + more)
