"""Where a function's body ends in an answer that goes on: by brackets, strings and indentation, without a parser."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

OPENERS, CLOSERS = "([{", ")]}"
# where a value may begin, a slash opens a regular expression; elsewhere it divides
BEFORE_REGEX = ("", *"(,=:[!&|?{};\n>+")
BEFORE_REGEX_WORD = re.compile(r"(?<![\w$.])(?:return|typeof|case|in|of|do|else|void|delete|throw|new|await|yield)\s*$")
LONGEST_WORD = 24
REGEX = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/")


@dataclass(frozen=True, slots=True)
class Syntax:
    """What of a language decides where a body ends.

    quotes: string delimiters, longer ones first; those in multiline may hold line breaks. comment runs to the end of
    its line, block_comment from its first to its second text. raw quotes know no escapes. regexes: a slash may open a
    regular expression. templates are quotes in which ${ begins code. indented: less indentation ends a body, else an
    unmatched closing bracket does.
    """

    comment: str
    quotes: tuple[str, ...]
    multiline: tuple[str, ...]
    indented: bool = False
    block_comment: tuple[str, str] | None = None
    raw: tuple[str, ...] = ()
    regexes: bool = False
    templates: tuple[str, ...] = ()


PYTHON = Syntax("#", ('"""', "'''", '"', "'"), ('"""', "'''"), indented=True)
JAVASCRIPT = Syntax("//", ('"', "'", "`"), ("`",), block_comment=("/*", "*/"), regexes=True, templates=("`",))
GO = Syntax("//", ('"', "'", "`"), ("`",), block_comment=("/*", "*/"), raw=("`",))
JAVA = Syntax("//", ('"""', '"', "'"), ('"""',), block_comment=("/*", "*/"))
SYNTAXES: Mapping[str, Syntax] = {
    "python": PYTHON,
    "javascript": JAVASCRIPT,
    "typescript": JAVASCRIPT,
    "go": GO,
    "java": JAVA,
}


def syntax_of(language: str) -> Syntax:
    """The syntax of a language; one that is not known is taken for Python."""
    return SYNTAXES.get(language, PYTHON)


def cut_body(text: str, *, language: str, indent: str) -> str:
    """The part of text that can be the rest of a body whose first line stands behind indent; all of it if unsure.

    Empty lines at its end are dropped.
    """
    syntax = syntax_of(language)
    code = _code(text, syntax)
    end = _dedent(text, code, width=_width(indent)) if syntax.indented else _unmatched(text, code)
    return text[:end].rstrip()


def _code(text: str, syntax: Syntax) -> Iterator[tuple[int, int]]:
    """Start and end of each character that is no comment; a string or regular expression is one piece."""
    place, before = 0, ""
    while place < len(text):
        after = _comment_end(text, place, syntax)
        if after == place:
            after = _literal_end(text, place, syntax, before=before) or place + 1
            yield place, after
            before = before if text[place] in " \t" else text[place]
        place = after


def _comment_end(text: str, place: int, syntax: Syntax) -> int:
    """Behind the comment that begins at place; place itself if none does."""
    if text.startswith(syntax.comment, place):
        return _until(text, "\n", place)
    if syntax.block_comment and text.startswith(syntax.block_comment[0], place):
        opener, closer = syntax.block_comment
        return min(len(text), _until(text, closer, place + len(opener)) + len(closer))
    return place


def _literal_end(text: str, place: int, syntax: Syntax, *, before: str) -> int:
    """Behind the string or regular expression that begins at place; 0 if none does."""
    quote = next((quote for quote in syntax.quotes if text.startswith(quote, place)), "")
    if quote:
        return _string_end(text, place + len(quote), quote, syntax)
    if syntax.regexes and text[place] == "/" and (before in BEFORE_REGEX or _behind_word(text, place)):
        found = REGEX.match(text, place)
        return found.end() if found else 0
    return 0


def _string_end(text: str, place: int, quote: str, syntax: Syntax) -> int:
    """Behind the closing quote; a string of one line ends with its line at the latest."""
    while place < len(text):
        if text[place] == "\\" and quote not in syntax.raw:
            place += 2
        elif text.startswith(quote, place):
            return place + len(quote)
        elif text[place] == "\n" and quote not in syntax.multiline:
            return place
        elif quote in syntax.templates and text.startswith("${", place):
            inner = text[place + 2 :]
            place += 2 + _unmatched(inner, _code(inner, syntax)) + 1
        else:
            place += 1
    return len(text)


def _behind_word(text: str, place: int) -> bool:
    """Whether a value follows, because of the word before."""
    return BEFORE_REGEX_WORD.search(text[max(0, place - LONGEST_WORD) : place]) is not None


def _until(text: str, mark: str, place: int) -> int:
    found = text.find(mark, place)
    return len(text) if found < 0 else found


def _unmatched(text: str, code: Iterator[tuple[int, int]]) -> int:
    """Where a bracket closes that was not opened in text."""
    depth = 0
    for place, _ in code:
        depth += (text[place] in OPENERS) - (text[place] in CLOSERS)
        if depth < 0:
            return place
    return len(text)


def _dedent(text: str, code: Iterator[tuple[int, int]], *, width: int) -> int:
    """Where the last statement ends before one that is indented by less than width columns."""
    depth, last, fresh = 0, 0, False
    for place, end in code:
        letter = text[place]
        if letter == "\n":
            fresh = depth == 0 and text[place - 1 : place] != "\\"
        elif not letter.isspace():
            if fresh and _width(text[text.rfind("\n", 0, place) + 1 : place]) < width:
                return last
            fresh = False
            depth = max(0, depth + (letter in OPENERS) - (letter in CLOSERS))
            last = _until(text, "\n", end)
    return len(text)


def _width(indent: str) -> int:
    return len(indent.expandtabs(8))
