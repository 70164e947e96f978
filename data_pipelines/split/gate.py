"""The leakage gate over all parts: which held-out rows stay novel, which are evolving, which prove nothing."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np

from data_pipelines.dedup.shingles import Words64
from data_pipelines.split.grams import known, read_words, write_words
from data_pipelines.split.leakage import NONE, REASONS, Marks, Train, check_gate
from data_pipelines.split.marks import KINDS, Asked, asked_words, train_files

KNOWN_REASON = "everything that it asks stands in a row of train"


class Fate(Enum):
    """What becomes of a held-out row that was to be novel or evolving."""

    STAYS = 0
    MOVES = 1
    GOES = 2


@dataclass
class Gate:
    """What of the held-out rows' marks train knows; leaked counts novel rows that were moved, by reason."""

    known: dict[str, Words64]
    train: Train
    leaked: Counter[str] = field(default_factory=Counter)

    def fates(self, asked: Asked, novel: Sequence[bool]) -> list[Fate]:
        """One for each held-out row of a part, in their order; novel says which are meant to be."""
        hits = {kind: asked.num_known(kind, self.known[kind]) for kind in KINDS}
        goes = (hits["runs"] > 0) & (hits["runs"] == asked.sizes("runs"))
        # the first kind that hits, past the last when none does
        first = np.argmax([*(hits[kind] > 0 for kind in KINDS), np.ones(len(goes), np.bool_)], axis=0)
        rows = zip(goes.tolist(), first.tolist(), novel, strict=True)
        return [Fate.GOES if is_known else self._fate(kind, is_novel) for is_known, kind, is_novel in rows]

    def _fate(self, hit: int, is_novel: bool) -> Fate:
        if not is_novel or hit == len(KINDS):
            return Fate.STAYS
        self.leaked[REASONS[KINDS[hit]]] += 1
        return Fate.MOVES

    def check(self, rows: Sequence[tuple[str, Marks]]) -> None:
        """Look once more, by another way, at rows that are about to be written as novel. Raises DatasetError. Each
        call looks through the files of train once, so pass many.
        """
        check_gate(rows, self.train)


def open_gate(folders: Sequence[Path]) -> Gate:
    """Gather on disk what all held-out rows ask, and look it up in what all train rows teach.

    In memory are the words that train knows, eight bytes each, and of all others some at a time.
    """
    train = train_files(list(folders))
    if not folders:
        return Gate(dict.fromkeys(KINDS, NONE), train)
    with tempfile.TemporaryDirectory(dir=folders[0].parent, prefix=".asked-") as scratch:
        return Gate({kind: _known(kind, folders, train, scratch=Path(scratch) / kind) for kind in KINDS}, train)


def _known(kind: str, folders: Sequence[Path], train: Train, *, scratch: Path) -> Words64:
    write_words(scratch, (asked_words(folder, kind) for folder in folders))
    taught = getattr(train, kind)
    return np.concatenate([NONE, *(words[known(words, taught)] for words in read_words(scratch))])
