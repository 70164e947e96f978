"""Path patterns of .gitignore and .gitattributes, matched by RE2: no pattern of a hostile repository takes long."""

from functools import lru_cache
from typing import Any

import re2

MAX_PATTERN_CHARS = 400
SIGNS = frozenset("*?[\\/")
WILD = {"*": "[^/]*", "?": "[^/]"}


def matches_any(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern matches path or a folder above it, as in .gitignore. "a/b" starts at the top, "b" anywhere."""
    return any(glob_matches(path, pattern) for pattern in patterns)


def glob_matches(path: str, pattern: str) -> bool:
    """Whether a .gitignore pattern matches path or a folder above it."""
    compiled = _compiled(pattern, False)
    return compiled is not None and compiled.fullmatch(path) is not None


def attribute_matches(path: str, pattern: str) -> bool:
    """Whether a .gitattributes pattern matches path itself; "docs/" is taken for "docs/**", which is what is meant."""
    if pattern[:1] == "*" and SIGNS.isdisjoint(pattern[1:]):
        # "*.py" is what most lines are
        return path.endswith(pattern[1:])
    compiled = _compiled(pattern + "**" if pattern.endswith("/") else pattern, True)
    return compiled is not None and compiled.fullmatch(path) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str, whole: bool) -> Any:
    """None for a pattern that means nothing, as git has it: such a line matches no file."""
    if len(pattern) > MAX_PATTERN_CHARS:
        return None
    bare = pattern.strip("/") if not whole else pattern.lstrip("/")
    anchored = "/" in pattern.rstrip("/")
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        return re2.compile(("" if anchored else "(?:.*/)?") + _regex(bare) + ("" if whole else "(?:/.*)?"), options)
    except re2.error:
        return None


def _regex(pattern: str) -> str:
    parts = []
    at = 0
    while at < len(pattern):
        text, at = _next(pattern, at)
        parts.append(text)
    return "".join(parts)


def _next(pattern: str, at: int) -> tuple[str, int]:
    """The expression for what stands at a position, and where the next begins."""
    starts_segment = at == 0 or pattern[at - 1] == "/"
    if starts_segment and pattern.startswith("**/", at):
        return "(?:.*/)?", at + 3
    if starts_segment and pattern[at:] == "**":
        return ".*", at + 2
    sign = pattern[at]
    if sign == "[":
        return _bracket(pattern, at)
    if sign == "\\" and at + 1 < len(pattern):
        return re2.escape(pattern[at + 1]), at + 2
    return WILD.get(sign) or re2.escape(sign), at + 1


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    end = pattern.find("]", at + 2)
    if end < 0:
        return re2.escape("["), at + 1
    inside = pattern[at + 1 : end]
    negated = inside[0] in "!^"
    inside = (inside[1:] if negated else inside).replace("\\", "\\\\").replace("[", "\\[")
    # a class never matches the slash between folders
    return (f"[^/{inside}]" if negated else f"[{inside}]"), end + 1
