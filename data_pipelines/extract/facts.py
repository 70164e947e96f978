"""What an extractor must know of a language, as data: grammars, queries, marks, where its imports may lie."""

import re
from collections.abc import Callable
from dataclasses import dataclass

# bodies that say nothing, on one line or several
STUB = re.compile(
    rb"^\s*(?:throw\s+(?:new\s+)?\w*(?:Unsupported|NotImplemented|NotSupported)\w*\s*\(.*\)"
    rb"|(?:(?i:todo)|unimplemented|panic)!?\s*\(.*\)|raise\s+NotImplemented\w*.*)\s*;?\s*$",
    re.DOTALL,
)


def no_paths(name: str, importer: str) -> list[str]:
    """For languages whose imports name no file."""
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One language. Queries are tree-sitter's; sets hold names of syntax nodes.

    grammars: the first that reads a text without an error is taken (TypeScript has one more for TSX).
    spans captures @block (as it is), @inside (what stands between its braces), @statement, @call, @import (the name
    alone) and @silent (comments and imports: no target by themselves).
    functions captures @function, @name and @body.
    line_skip: lines that begin so say nothing, in addition to silent ones.
    max_error_share: share of a file's bytes in syntax errors up to which it is used all the same; 0 forgives nothing.
    comments, doc_marks: which comments document the function below them; no doc_marks means any.
    around: nodes that belong to the function they hold; between: what may stand between a function and its comment.
    openers, closers: tokens of a body that are no code; without openers the head ends where the body begins.
    alone: texts before and after a function with which it must parse outside its file, tried in turn.
    """

    language: str
    grammars: tuple[Callable[[], object], ...]
    spans: str
    functions: str
    line_skip: tuple[bytes, ...] = (b"}", b")", b"]", b"{", b"@")
    max_error_share: float = 0.0
    comments: frozenset[str] = frozenset({"comment"})
    doc_marks: tuple[bytes, ...] = ()
    around: frozenset[str] = frozenset()
    between: frozenset[str] = frozenset()
    openers: frozenset[str] = frozenset({"{"})
    closers: frozenset[str] = frozenset({"}"})
    stub: re.Pattern[bytes] = STUB
    alone: tuple[tuple[bytes, bytes], ...] = ((b"", b""),)
    module_paths: Callable[[str, str], list[str]] = no_paths
