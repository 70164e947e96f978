"""Commits that may become tasks: one parent, a change of source and of tests, a message that states a request."""

import ast
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

from data_pipelines.benchmark.functions import is_test_file
from data_pipelines.benchmark.requests import Requests
from data_pipelines.document import Change, Commit
from data_pipelines.mine.message import BOT
from data_pipelines.sources.git import Repository
from finetune.contracts.edit_blocks import Block, write_blocks
from finetune.contracts.executed import FileText

MAX_SOURCE_FILES = 5
MAX_TEST_FILES = 10
MAX_CHANGED_LINES = 200
MAX_FILE_BYTES = 1 << 20
# is_test_file knows them since no body is cut out of them; they test nothing
NO_TESTS = ("setup.py", "noxfile.py")


class Unfit(Exception):
    """A commit that is no task; the text is the reason."""


@dataclass(frozen=True, slots=True)
class SourceChange:
    """A source file before and after a commit."""

    path: str
    before: str
    after: str

    @property
    def num_lines(self) -> int:
        """Lines taken out and put in."""
        return sum(
            (end - start) + (last - first)
            for kind, start, end, first, last in _hunks(self.before, self.after)
            if kind != "equal"
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A commit that may become a task, as far as its file list and message tell."""

    id: str
    request: str
    sources: tuple[Change, ...]
    tests: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Texts:
    """The files of a candidate: sources before and after, and tests as the commit left them."""

    sources: tuple[SourceChange, ...]
    tests: tuple[FileText, ...]

    def cosmetic(self) -> tuple[FileText, ...]:
        """The source files with only those hunks of the change that the compiler does not see; () if there are none."""
        found = [FileText(path=one.path, text=cosmetic_part(one.before, one.after)) for one in self.sources]
        before = {one.path: one.before for one in self.sources}
        return tuple(found) if any(file.text != before[file.path] for file in found) else ()


def candidate_of(commit: Commit, requests: Requests) -> Candidate:
    """The candidate that commit is. Raises Unfit."""
    paths = [(change, _text(change.path)) for change in commit.changes]
    tests = [change for change, path in paths if _is_test(path)]
    sources = [change for change, path in paths if path.endswith(".py") and not is_test_file(path)]
    if not sources:
        raise Unfit("changes no Python source file")
    if not any(path.endswith(".py") and change.status != "D" for change, path in paths if _is_test(path)):
        raise Unfit("changes no Python test file")
    if len(sources) > MAX_SOURCE_FILES or len(tests) > MAX_TEST_FILES:
        raise Unfit(f"more than {MAX_SOURCE_FILES} source or {MAX_TEST_FILES} test files")
    if any(change.status != "M" for change in sources):
        raise Unfit("adds, removes or renames a source file")
    if BOT.search(commit.name) or BOT.search(commit.email):
        raise Unfit("written by a bot")
    request = requests.request(commit.message)
    if request is None:
        raise Unfit("message states no request")
    return Candidate(commit.id, request, tuple(sources), tuple(tests))


def read_texts(candidate: Candidate, repository: Repository) -> Texts:
    """The files of a candidate. Raises Unfit for one that cannot be read as text."""
    sources = tuple(
        SourceChange(_text(one.path), _content(repository, one.before), _content(repository, one.after))
        for one in candidate.sources
    )
    tests = tuple(
        FileText(path=_text(one.path), text=None if one.status == "D" else _content(repository, one.after))
        for one in candidate.tests
    )
    return Texts(sources, tests)


def check_texts(texts: Texts) -> None:
    """Raise Unfit for a change that is too long, is one of form alone, or cannot be said in an answer."""
    sources = texts.sources
    if sum(one.num_lines for one in sources) > MAX_CHANGED_LINES:
        raise Unfit(f"more than {MAX_CHANGED_LINES} lines of source changed")
    if all(cosmetic_part(one.before, one.after) == one.after for one in sources):
        raise Unfit("changes only comments, docstrings or white space of its source")
    if any(write_blocks(one.path, [Block(one.before, one.after)]) is None or not one.before for one in sources):
        raise Unfit("search/replace blocks cannot say its change")


def cosmetic_part(before: str, after: str) -> str:
    """before with those hunks of the change to after that leave its syntax tree, docstrings aside, as it was."""
    wanted = _tree(before)
    lines, other = before.splitlines(keepends=True), after.splitlines(keepends=True)
    if wanted is None:
        return before
    hunks = [hunk for hunk in _hunks(before, after) if hunk[0] != "equal"]
    # from the end, so that the numbers of earlier lines stay true
    for _, start, end, first, last in reversed(hunks):
        tried = [*lines[:start], *other[first:last], *lines[end:]]
        if _tree("".join(tried)) == wanted:
            lines = tried
    return "".join(lines)


def _hunks(before: str, after: str) -> Sequence[tuple[str, int, int, int, int]]:
    lines, other = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return difflib.SequenceMatcher(None, lines, other, autojunk=False).get_opcodes()


def _tree(text: str) -> str | None:
    """The syntax tree without docstrings; None where there is none."""
    try:
        with catch_warnings():
            simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in _documented(tree):
        if ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.Pass()
    return ast.dump(tree)


def _documented(tree: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _is_test(path: str) -> bool:
    return is_test_file(path) and path.rpartition("/")[2] not in NO_TESTS


def _text(path: bytes) -> str:
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise Unfit("a path is no UTF-8") from cause


def _content(repository: Repository, blob: str) -> str:
    content = repository.content(blob, max_bytes=MAX_FILE_BYTES)
    if content is None:
        raise Unfit(f"a file is missing, damaged or larger than {MAX_FILE_BYTES:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise Unfit("a source or test file is no UTF-8 text") from cause
