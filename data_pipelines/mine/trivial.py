"""Edits that teach nothing: those of form alone, and those that give one name to what had another."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from warnings import catch_warnings, simplefilter

from data_pipelines.mine.words import KEYWORDS

TOKEN = re.compile(r"[^\W\d]\w*|\d[\w.]*|\"\"\"|'''|[^\w\s]")
NAME = re.compile(r"[^\W\d]\w*")
TRAILING_COMMA = re.compile(r",(?=\s*[)\]}])")
# each is a token wherever it stands, and neither form nor names change how many there are: that tells most edits apart
ALWAYS_TOKENS = "(=;:"
# languages in which both kinds of quotes mean the same
ANY_QUOTES = frozenset({"python", "javascript", "typescript"})
# the words by which values differ, not names
VALUES = frozenset({word.decode() for word in KEYWORDS} | {"null", "NULL", "None", "nil", "True", "False", "YES", "NO"})


@dataclass(frozen=True, slots=True)
class FileChange:
    """The text of a file before and after a commit."""

    before: str
    after: str
    language: str


def trivial_reason(files: Sequence[FileChange]) -> str | None:
    """Why a commit that changed these files teaches nothing; None when it may."""
    if all(_is_form(file) for file in files):
        return "changes formatting only"
    tokens = [(_tokens(file.before, file.language), _tokens(file.after, file.language)) for file in files]
    if all(len(before) == len(after) for before, after in tokens) and _renames(tokens):
        return "renames only"
    return None


def looks_trivial(parts: Sequence[FileChange]) -> bool:
    """Whether trivial_reason may have something to say, as far as the parts of the files tell that differ."""
    if any(part.before.count(mark) != part.after.count(mark) for part in parts for mark in ALWAYS_TOKENS):
        return False
    tokens = [(_tokens(part.before, part.language), _tokens(part.after, part.language)) for part in parts]
    return all(before == after for before, after in tokens) or (
        all(len(before) == len(after) for before, after in tokens) and _renames(tokens)
    )


def _is_form(file: FileChange) -> bool:
    """Whether both texts have the same tokens; in Python, where indentation speaks, also the same syntax tree."""
    if _tokens(file.before, file.language) != _tokens(file.after, file.language):
        return False
    return file.language != "python" or _tree(file.before) == _tree(file.after) is not None


def _tree(text: str) -> str | None:
    try:
        with catch_warnings():
            simplefilter("ignore")
            return ast.dump(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _tokens(text: str, language: str) -> list[str]:
    """Tokens without what formatters change: white space, commas before a closing bracket, quotes where either do."""
    text = TRAILING_COMMA.sub("", text)
    return TOKEN.findall(text.replace("'", '"') if language in ANY_QUOTES else text)


def _renames(files: Sequence[tuple[list[str], list[str]]]) -> bool:
    """Whether each name that changes does so everywhere, to one name that was not there before."""
    new_names: dict[str, str] = {}
    for before, after in files:
        for old, new in zip_longest(before, after):
            if old != new and not (_is_name(old) and _is_name(new) and new_names.setdefault(old, new) == new):
                return False
    known = {token for before, _ in files for token in before}
    left = {token for _, after in files for token in after}
    taken = set(new_names.values())
    # a name that is used once is a value or a call that became another, not a renamed thing
    often = all(sum(before.count(old) for before, _ in files) > 1 for old in new_names)
    return len(taken) == len(new_names) and taken.isdisjoint(known) and left.isdisjoint(new_names) and often


def _is_name(token: str) -> bool:
    return bool(NAME.fullmatch(token)) and token not in VALUES
