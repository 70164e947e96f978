"""Which files of a repository help to fill a gap: those it imports, its neighbours, what changes and speaks with it."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, combinations
from math import log, log1p
from typing import Final

import numpy as np
from numpy.typing import NDArray

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


Words = NDArray[np.uint64]
Places = NDArray[np.intp]
Scores = NDArray[np.float64]


class _WordIndex:
    """For each word the places of the files that have it, ascending.

    All lie in one array, one word after the other: a large repository has too many words for an object of each.
    """

    def __init__(self, words_of: Sequence[Collection[int]]) -> None:
        counts = np.fromiter(map(len, words_of), np.intp, len(words_of))
        words = np.fromiter(chain.from_iterable(words_of), np.uint32, int(counts.sum()))
        order = np.argsort(words, kind="stable")
        self._places = np.repeat(np.arange(len(words_of), dtype=np.uint32), counts)[order]
        known, self._starts, self._counts = np.unique(words[order], return_index=True, return_counts=True)
        # above all words, so that what is looked up has a place in the array
        self._words = np.append(known.astype(np.uint64), np.uint64(1 << 32))

    def find(self, words: Words) -> tuple[Places, Places]:
        """Where the places begin of each word that is known, and how many it has; words are sorted, each once."""
        rows = np.searchsorted(self._words, words)
        rows = rows[self._words[rows] == words]
        return self._starts[rows], self._counts[rows]

    def places(self, starts: Places, counts: Places) -> NDArray[np.uint32]:
        """The places that begin at starts, so many for each."""
        ends = np.cumsum(counts)
        found = np.arange(counts.sum()) + np.repeat(starts - ends + counts, counts)
        return self._places.take(found)


class ContextIndex:
    """The files of one repository that rows may show, ready to be ranked for one gap after another.

    co_changes maps a path to the number of commits that it shares with others: see co_changes.
    """

    def __init__(self, cards: Iterable[FileCard], *, co_changes: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._cards = sorted(cards, key=lambda card: card.path)
        self._places = {card.path: place for place, card in enumerate(self._cards)}
        self._co_changes = co_changes or {}
        self._words = _WordIndex([card.words for card in self._cards])
        self._defines = _WordIndex([{word_hash(name.encode("utf-8")) for name in card.defines} for card in self._cards])
        self._importers: dict[str, list[str]] = defaultdict(list)
        self._folders: dict[str, list[int]] = defaultdict(list)
        for place, card in enumerate(self._cards):
            for path in card.imports:
                self._importers[path].append(card.path)
            self._folders[_folder(card.path)].append(place)

    def rank(self, target: FileCard, words: Iterable[int], *, limit: int) -> list[FileCard]:
        """The best limit files for a gap in target whose surroundings hold words, best first; ties go by path.

        Neither the target nor a file of its cluster is among them, nor one that nothing speaks for.
        """
        scores = self._scores(target, words)
        spoken_for = np.flatnonzero(scores)
        order = spoken_for[np.argsort(-scores[spoken_for], kind="stable")]
        cards = (self._cards[place] for place in order)
        found = (card for card in cards if card.path != target.path and card.cluster != target.cluster)
        return [card for card, _ in zip(found, range(limit), strict=False)]

    def _scores(self, target: FileCard, words: Iterable[int]) -> Scores:
        """By place; 0 where nothing speaks for a file."""
        wanted = np.array(sorted(set(words)), np.uint64)
        weighed = [
            self._weighed(index, wanted, factor)
            for index, factor in ((self._defines, DEFINES_WEIGHT), (self._words, SHARES_WEIGHT))
        ]
        places, weights = (np.concatenate(parts) for parts in zip(*weighed, strict=True))
        scores = np.zeros(len(self._cards))
        np.add.at(scores, places, weights)
        self._add_neighbours(scores, target)
        return scores

    def _weighed(self, index: _WordIndex, wanted: Words, factor: float) -> tuple[NDArray[np.uint32], Scores]:
        """Places of files that have one of the words, and what the word adds to their scores."""
        starts, counts = index.find(wanted)
        idfs = [self._idf(count) for count in counts.tolist()]
        telling = counts <= MAX_FILES_PER_WORD
        starts, counts, weights = starts[telling], counts[telling], factor * np.array(idfs)[telling] / (sum(idfs) or 1)
        return index.places(starts, counts), np.repeat(weights, counts)

    def _add_neighbours(self, scores: Scores, target: FileCard) -> None:
        for path in target.imports:
            self._raise(scores, path, IMPORTS_WEIGHT)
        for path in self._importers.get(target.path, ())[:MAX_FILES_PER_WORD]:
            self._raise(scores, path, IMPORTED_BY_WEIGHT)
        for path, count in self._co_changes.get(target.path, {}).items():
            share = min(1.0, log1p(count) / log1p(MANY_CO_CHANGES))
            self._raise(scores, path, share * CO_CHANGE_WEIGHT)
        scores[self._folders.get(_folder(target.path), [])[:MAX_FILES_PER_WORD]] += FOLDER_WEIGHT

    def _raise(self, scores: Scores, path: str, weight: float) -> None:
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
