"""Tests in a file: which functions and blocks are tests, and which of them assert something."""

import re
from collections.abc import Iterator

from data_pipelines.document import NamedFunction, Span, Units
from data_pipelines.filters.language import suffix_of
from data_pipelines.mine.picks import CaseUnit
from data_pipelines.redact.allow import PLACEHOLDER
from data_pipelines.task_config import TestsSection

TEST_FOLDERS = frozenset({"test", "tests", "spec", "specs", "__tests__", "testing", "t"})
TEST_NAME = re.compile(
    r"^(?:test_.*|.*_test|.*_tests|.*_spec|.*\.test|.*\.spec|.*[A-Za-z0-9]Tests?|.*[A-Za-z0-9]Spec|Tests?[A-Z].*|.*\.bats)$"
)
# a function is a test by its name, or by what is written at its head or right above it
FUNCTION_NAME = re.compile(r"^(?:test_?\w+|Test\w+|\w+_test)$")
FUNCTION_MARK = re.compile(
    rb"@(?:\w+\.)*(?:Parameterized|Repeated)?Test\b|\[(?:Fact|Theory|Test|TestMethod|TestCase)\b|#\[(?:\w+::)*[Tt]est\b"
)
MARK_BYTES = 160
MAX_ATTRIBUTE_LINES = 60
ATTRIBUTE = re.compile(rb"[ \t]*(?:@|#\[|\[)")
# it("...", () => {   test "..." do   @test "..." {   TEST(Suite, Name) {   TEST_CASE("...") {
BLOCK_HEAD = re.compile(
    rb"^([ \t]*)(?:(?:it|test|specify)(?:\.[a-z]+)?[ \t]*\(|(?:it|test|specify|scenario|@test)[ \t]+[\"']"
    rb"|TEST\w*[ \t]*\()([^\n]*)\n",
    re.MULTILINE,
)
# plain words, because a pattern of them takes ten times as long
ASSERTIONS = (
    *(b"assert", b"Assert", b"ASSERT", b"EXPECT", b"REQUIRE", b"CHECK", b"expect", b"should", b"must_", b"verify("),
    *(b"require.", b"refute", b"raises", b".Error(", b".Errorf(", b".Fatal(", b".Fatalf(", b"[ ", b"run "),
)
SNAPSHOTS = (b"snapshot", b"insta::", b"golden", b"approvals.")
MAX_LINE_BYTES = 300


def is_test_path(path: str) -> bool:
    """Whether a file is one of tests, by its name or a folder above it."""
    *folders, name = path.split("/")
    return bool(TEST_NAME.match(name.removesuffix(suffix_of(name)))) or any(
        folder.lower() in TEST_FOLDERS for folder in folders
    )


def pick_cases(text: bytes, *, path: str, units: Units, section: TestsSection) -> tuple[CaseUnit, ...]:
    """The tests of a file in whole lines, those that assert something, hold no dump and are no longer than allowed.

    A file that is none of tests has tests only where each is marked as one, as in Rust.
    """
    is_test = is_test_path(path)
    found = [*_functions(text, units, by_name=is_test), *(_blocks(text, section) if is_test else ())]
    cases, end = [], 0
    for name, span in sorted(found, key=lambda item: (item[1].start, -item[1].end)):
        if span.start >= end and _teaches(text, span, section):
            end = span.end
            cases.append(CaseUnit(name, span))
    return tuple(cases)


def _functions(text: bytes, units: Units, *, by_name: bool) -> Iterator[tuple[str, Span]]:
    for function in units.named:
        start = _with_attributes(text, function.whole.start)
        if (by_name and FUNCTION_NAME.match(function.name)) or _is_marked(text, function, start):
            yield function.name, Span(start, _line_end(text, function.whole.end))


def _is_marked(text: bytes, function: NamedFunction, start: int) -> bool:
    head_end = text.find(b"{", function.whole.start, function.whole.start + MARK_BYTES)
    end = head_end if head_end >= 0 else function.whole.start
    return bool(FUNCTION_MARK.search(text, start, end))


def _blocks(text: bytes, section: TestsSection) -> Iterator[tuple[str, Span]]:
    place = 0
    while (head := BLOCK_HEAD.search(text, place)) is not None:
        indent, title = head.groups()
        close = re.compile(rb"^" + re.escape(indent) + rb"(?:\}|end\b)[^\n]*", re.MULTILINE)
        last = close.search(text, head.end(), head.end() + 2 * section.max_test_bytes)
        if last:
            yield title.decode("utf-8", "ignore"), Span(head.start(), _line_end(text, last.end()))
        place = last.end() if last else head.end()


def _teaches(text: bytes, span: Span, section: TestsSection) -> bool:
    code = text[span.start : span.end]
    return (
        len(code) <= section.max_test_bytes
        and code.count(b"\n") > 1
        and any(word in code for word in ASSERTIONS)
        and not any(word in code.lower() for word in SNAPSHOTS)
        and not PLACEHOLDER.search(code)
        and max(map(len, code.split(b"\n"))) <= MAX_LINE_BYTES
    )


def _with_attributes(text: bytes, place: int) -> int:
    """The start of the line of place, or of the first attribute or decorator right above it."""
    start = first = text.rfind(b"\n", 0, place) + 1
    indent = text[start:place]
    inside = False
    for _ in range(MAX_ATTRIBUTE_LINES):
        if not start:
            break
        above = text.rfind(b"\n", 0, start - 1) + 1
        line = text[above:start]
        is_near = line.startswith(indent) and not line[len(indent) : len(indent) + 1].isspace()
        if is_near and ATTRIBUTE.match(line):
            first, inside = above, False
        elif is_near and line[len(indent) : len(indent) + 1] in (b")", b"]"):
            inside = True
        elif not inside:
            break
        start = above
    return first


def _line_end(text: bytes, place: int) -> int:
    if place and text[place - 1 : place] == b"\n":
        return place
    end = text.find(b"\n", place)
    return len(text) if end < 0 else end + 1
