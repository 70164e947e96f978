"""Which tests belong to which functions: by the names of files, by imports, and by the names that a test speaks of."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from data_pipelines.mine.card import FileCard, LoadedFile
from data_pipelines.mine.picks import CaseUnit
from data_pipelines.mine.words import KEYWORDS, identifiers, name_words, stem

AFFIX = re.compile(r"^(?:test_|tests_|spec_|Tests?(?=[A-Z]))|(?:_test|_tests|_spec|[.-]test|[.-]spec|Tests?|Spec|IT)$")
MIN_NAME_CHARS = 3
# names that tests call to prepare or that every type has
COMMON_TEXT = """
main init setup teardown tostring equals hashcode string error run new close open get set add constructor call test
build create"""
COMMON = frozenset(COMMON_TEXT.split())
MAX_FILES_PER_STEM = 8


@dataclass(frozen=True, slots=True)
class Link:
    """A function of the file at path, and the tests that speak of it."""

    path: str
    name: str
    cases: tuple[CaseUnit, ...]


class LinkIndex:
    """The files of one repository by the names that tests call them."""

    def __init__(self, cards: Iterable[FileCard]) -> None:
        self._cards = {card.path: card for card in cards}
        self._stems: dict[str, list[FileCard]] = defaultdict(list)
        for path in sorted(self._cards):
            card = self._cards[path]
            if not card.is_test:
                self._stems[_stem(path)].append(card)

    def links(self, loaded: LoadedFile, card: FileCard) -> list[Link]:
        """The functions that the tests of a file speak of, each with its tests, in the order of the first of these.

        A test goes to one function: one whose name it has in its own, else, in a file of the same name, the one that
        the fewest tests speak of.
        """
        sources = self._sources(card)
        same = {source.path for source in self._stems.get(_stem(card.path), ())} | {card.path}
        spoken = [_spoken(loaded.text, case) for case in loaded.picks.cases]
        telling = [(source, {name for name in source.defines if _is_telling(name)}) for source in sources]
        candidates = [
            [(name, source) for source, names in telling for name in sorted(names & words)] for words in spoken
        ]
        common = _frequency(candidates)
        found: dict[tuple[str, str], list[CaseUnit]] = defaultdict(list)
        for case, names in zip(loaded.picks.cases, candidates, strict=True):
            title = {stem(word) for word in name_words(case.name)}
            near = [(name, source) for name, source in names if _is_held(name, title) or source.path in same]
            if near:
                # sources are in the order of their nearness, which decides between equals
                name, source = min(near, key=lambda item: (*_distance(item[0], title), common[item[0]]))
                found[source.path, name].append(case)
        return [Link(path, name, tuple(cases)) for (path, name), cases in found.items()]

    def _sources(self, card: FileCard) -> list[FileCard]:
        """Files that may be tested by this one, the surest first: of the same stem, itself, then what it imports."""
        same = sorted(
            self._stems.get(_stem(card.path), ()), key=lambda other: (-_common(card.path, other.path), other.path)
        )
        itself = [card] if not card.is_test else []
        imported = [self._cards[path] for path in card.imports if path in self._cards]
        found = {
            other.path: other
            for other in (*same[:MAX_FILES_PER_STEM], *itself, *imported)
            if other.language == card.language and not other.is_test
        }
        return list(found.values())


def _spoken(text: bytes, case: CaseUnit) -> set[str]:
    return {name.decode("utf-8", "ignore") for name in identifiers(text[case.span.start : case.span.end])} - {case.name}


def _is_telling(name: str) -> bool:
    return (
        len(name) >= MIN_NAME_CHARS
        and name.lower() not in COMMON
        and not name.startswith("__")
        and name.encode() not in KEYWORDS
    )


def _is_held(name: str, title: set[str]) -> bool:
    words = {stem(word) for word in name_words(name)}
    return bool(words) and words <= title


def _distance(name: str, title: set[str]) -> tuple[bool, int]:
    """Names that the title holds come first, of these the longest."""
    held = _is_held(name, title)
    return not held, -len(name_words(name)) if held else 0


def _frequency(candidates: Sequence[Sequence[tuple[str, FileCard]]]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for names in candidates:
        for name in {name for name, _ in names}:
            counts[name] += 1
    return counts


def _stem(path: str) -> str:
    """What a file is about by its name, without what marks it as one of tests, in lower case."""
    name = PurePosixPath(path).name
    stem = name.removesuffix(PurePosixPath(path).suffix)
    return AFFIX.sub("", AFFIX.sub("", stem)).lower()


def _common(one: str, other: str) -> int:
    """How many folders of the same name lie above both."""
    return len(set(one.split("/")[:-1]) & set(other.split("/")[:-1]))
