"""Internal types that pass between stages: tree entries, commits, documents, spans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A file of a commit's tree; path is raw, because git does not ask for UTF-8. bytes is -1 for a missing blob."""

    path: bytes
    mode: str
    blob: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Change:
    """One file of a commit: blob names before and after, status letter of `git log --raw` (A, M, D, T)."""

    path: bytes
    status: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that is no merge. time is the committer's, in seconds since 1970; email and name are the author's."""

    id: str
    time: int
    email: str
    name: str
    message: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """The commit that gave a file its content: id, time, and the author as a keyed hash."""

    commit: str
    time: int
    author: str


class Stratum(StrEnum):
    """Kinds of infill spans."""

    BLOCK = "block"
    STATEMENT = "statement"
    CALL = "call"
    LINE = "line"
    TAIL = "tail"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Span:
    """Byte offsets in the UTF-8 text, end exclusive."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FunctionUnit:
    """A documented function: doc is its docstring, or the comment above it, with which whole begins then.

    The head ends at head_end (after the docstring, or the opening brace), the code lies in [body_start, body_end).
    doc_chars counts the characters of the doc without its marks; is_stub: the code only says that there is none.
    """

    name: str
    whole: Span
    doc: Span
    head_end: int
    body_start: int
    body_end: int
    doc_chars: int
    is_stub: bool = False


@dataclass(frozen=True, slots=True)
class NamedFunction:
    """Any function, documented or not: its name as written, and where it stands, decorators left out."""

    name: str
    whole: Span


@dataclass(frozen=True, slots=True)
class Units:
    """What an extractor finds in one text. imports are names as the language writes them; functions are documented,
    named are all of them.

    No target is made of silent places alone (comments, imports), and none touches a broken one (syntax errors).
    """

    parses: bool
    spans: Mapping[Stratum, Sequence[Span]] = field(default_factory=dict)
    functions: list[FunctionUnit] = field(default_factory=list)
    named: list[NamedFunction] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    silent: list[Span] = field(default_factory=list)
    broken: list[Span] = field(default_factory=list)
