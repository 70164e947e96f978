"""Which files of a repository help to fill a gap: those it imports, its neighbours, what changes and speaks with it."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import log, log1p
from typing import Final

from data_pipelines.mine.card import FileCard
from data_pipelines.mine.words import identifiers, word_hash

# Weights on the scale of a word's share in all words around the gap, which add up to one. bench/context_ranking.py
# shows what they do: more for definitions shows fewer of the other names, more for imports fewer of both.
DEFINES_WEIGHT: Final = 1.0
SHARES_WEIGHT: Final = 1.5
IMPORTS_WEIGHT: Final = 0.3
IMPORTED_BY_WEIGHT: Final = 0.2
FOLDER_WEIGHT: Final = 0.1
CO_CHANGE_WEIGHT: Final = 0.2
# co-changes from which more say no more
MANY_CO_CHANGES: Final = 16
# a word of more files than this tells none of them from another; it also bounds the work per word
MAX_FILES_PER_WORD: Final = 200
MAX_FILES_PER_COMMIT: Final = 20
MAX_PARTNERS: Final = 32
NEAR_BYTES: Final = 800


class ContextIndex:
    """The files of one repository that rows may show, ready to be ranked for one gap after another.

    co_changes maps a path to the number of commits that it shares with others: see co_changes.
    """

    def __init__(self, cards: Iterable[FileCard], *, co_changes: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._cards = sorted(cards, key=lambda card: card.path)
        self._places = {card.path: place for place, card in enumerate(self._cards)}
        self._co_changes = co_changes or {}
        self._words: dict[int, array[int]] = defaultdict(lambda: array("I"))
        self._defines: dict[int, array[int]] = defaultdict(lambda: array("I"))
        self._importers: dict[str, list[str]] = defaultdict(list)
        self._folders: dict[str, list[int]] = defaultdict(list)
        for place, card in enumerate(self._cards):
            self._add(place, card)

    def rank(self, target: FileCard, words: Iterable[int], *, limit: int) -> list[FileCard]:
        """The best limit files for a gap in target whose surroundings hold words, best first; ties go by path.

        Neither the target nor a file of its cluster is among them, nor one that nothing speaks for.
        """
        scores = self._scores(target, words)
        order = sorted(scores, key=lambda place: (-scores[place], place))
        cards = (self._cards[place] for place in order)
        found = (card for card in cards if card.path != target.path and card.cluster != target.cluster)
        return [card for card, _ in zip(found, range(limit), strict=False)]

    def _add(self, place: int, card: FileCard) -> None:
        for word in card.words:
            self._words[word].append(place)
        for word in {word_hash(name.encode("utf-8")) for name in card.defines}:
            self._defines[word].append(place)
        for path in card.imports:
            self._importers[path].append(card.path)
        self._folders[_folder(card.path)].append(place)

    def _scores(self, target: FileCard, words: Iterable[int]) -> dict[int, float]:
        scores: dict[int, float] = defaultdict(float)
        wanted = set(words)
        for index, factor in ((self._defines, DEFINES_WEIGHT), (self._words, SHARES_WEIGHT)):
            weights = {word: self._idf(len(index[word])) for word in sorted(wanted & index.keys())}
            total = sum(weights.values())
            for word, weight in weights.items():
                if len(index[word]) <= MAX_FILES_PER_WORD:
                    for place in index[word]:
                        scores[place] += factor * weight / total
        self._add_neighbours(scores, target)
        return scores

    def _add_neighbours(self, scores: dict[int, float], target: FileCard) -> None:
        for path in target.imports:
            self._raise(scores, path, IMPORTS_WEIGHT)
        for path in self._importers.get(target.path, ())[:MAX_FILES_PER_WORD]:
            self._raise(scores, path, IMPORTED_BY_WEIGHT)
        for path, count in self._co_changes.get(target.path, {}).items():
            share = min(1.0, log1p(count) / log1p(MANY_CO_CHANGES))
            self._raise(scores, path, share * CO_CHANGE_WEIGHT)
        for place in self._folders.get(_folder(target.path), [])[:MAX_FILES_PER_WORD]:
            scores[place] += FOLDER_WEIGHT

    def _raise(self, scores: dict[int, float], path: str, weight: float) -> None:
        place = self._places.get(path)
        if place is not None:
            scores[place] += weight

    def _idf(self, num_files: int) -> float:
        """How much a word tells that so many files have."""
        return log(1 + len(self._cards) / num_files)


def words_near(text: bytes, start: int, end: int) -> set[int]:
    """Hashes of the identifiers within NEAR_BYTES before and after a gap; the gap itself is not read."""
    before = text[max(0, start - NEAR_BYTES) : start]
    return {word_hash(name) for name in identifiers(before + b"\n" + text[end : end + NEAR_BYTES])}


def co_changes(commits: Iterable[Sequence[str]]) -> dict[str, dict[str, int]]:
    """For each path how many commits it shares with which others, from the paths of each commit, newest first.

    A commit of more than MAX_FILES_PER_COMMIT files says nothing; of a path the MAX_PARTNERS most frequent are kept,
    so that the result stays small beside the history.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for paths in commits:
        if len(paths) > MAX_FILES_PER_COMMIT:
            continue
        for one, other in combinations(sorted(set(paths)), 2):
            for path, partner in ((one, other), (other, one)):
                found = counts[path]
                # in a long history the first partners, which are the newest, are those that still count
                if partner in found or len(found) < 4 * MAX_PARTNERS:
                    found[partner] += 1
    return {path: _most(found) for path, found in sorted(counts.items())}


def _most(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_PARTNERS])


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
