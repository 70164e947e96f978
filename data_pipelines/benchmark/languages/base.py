"""What a language must tell so that bodies of its functions can be cut out and replaced by ones that must fail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tree_sitter import Node

from data_pipelines.extract.facts import Facts

TEST_FOLDERS = frozenset({"test", "tests", "testing", "__tests__", "testdata", "spec"})
# written by others, or by a tool
FOREIGN_FOLDERS = frozenset({"node_modules", "vendor", "third_party", "dist", "build", "target"})
NOTHING_WRITTEN = '"not written"'


def no_lines(node: Node, text: bytes) -> tuple[str, ...]:
    """For languages that are content with a body that uses nothing."""
    return ()


def in_test_folder(path: str) -> bool:
    """Whether a file lies below a folder of tests."""
    return bool(TEST_FOLDERS & set(PurePosixPath(path).parts[:-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class MinedLanguage:
    """One language. runner names what runs its tests; files end in suffixes, those that serves_tests names are left.

    stub is a statement that ends a call at once and compiles in any function. values are lines of bodies that return
    what costs no thought, for the node of a function; one that does not compile is left out when it is tried. kept are
    lines without which the file does not compile once the body is gone. not_mined names nodes of functions that
    cannot lose their body, with the reason.
    """

    facts: Facts
    runner: str
    suffixes: tuple[str, ...]
    serves_tests: Callable[[str], bool]
    stub: str
    values: Callable[[Node, bytes], Sequence[str]]
    kept: Callable[[Node, bytes], tuple[str, ...]] = no_lines
    not_mined: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """As tasks spell the language."""
        return self.facts.language

    def holds(self, path: str) -> bool:
        """Whether a file is the repository's own code in this language."""
        parts = PurePosixPath(path).parts
        return path.endswith(self.suffixes) and not FOREIGN_FOLDERS & set(parts[:-1])


def words(node: Node | None, text: bytes) -> str:
    """The text of a node; "" for none."""
    return text[node.start_byte : node.end_byte].decode("utf-8", "replace") if node is not None else ""
