"""JavaScript: any value can be returned anywhere."""

from pathlib import PurePosixPath

from tree_sitter import Node

from data_pipelines.benchmark.languages.base import NOTHING_WRITTEN, MinedLanguage, in_test_folder, words
from data_pipelines.extract.javascript import FACTS

MARKS = (".test", ".spec", "-test", "_test")


def serves_tests(path: str) -> bool:
    """By node's own rules: a folder named test, test.js, test-x.js, x.test.js and so on; and configuration files."""
    stem = PurePosixPath(path).stem
    named = stem == "test" or stem.startswith("test-") or stem.endswith(MARKS)
    return in_test_folder(path) or named or stem.endswith(".config")


def values(node: Node, text: bytes) -> tuple[str, ...]:
    """Nothing, and the first argument or an empty list."""
    return "return undefined;", f"return {_first_argument(node, text) or '[]'};"


def _first_argument(node: Node, text: bytes) -> str:
    inner = node
    for field in ("value", "right"):
        inner = inner.child_by_field_name(field) or inner
    given = inner.child_by_field_name("parameters")
    first = given.named_children[0] if given is not None and given.named_children else None
    if first is not None and first.type == "assignment_pattern":
        first = first.child_by_field_name("left")
    first = first or inner.child_by_field_name("parameter")
    return words(first, text) if first is not None and first.type == "identifier" else ""


LANGUAGE = MinedLanguage(
    facts=FACTS,
    runner="javascript",
    suffixes=(".js", ".mjs", ".cjs"),
    serves_tests=serves_tests,
    stub=f"throw new Error({NOTHING_WRITTEN});",
    values=values,
)
