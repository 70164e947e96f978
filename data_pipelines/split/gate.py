"""The leakage gate over all parts: which held-out rows stay novel, which are evolving, which prove nothing."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np

from data_pipelines.dedup.shingles import Words64
from data_pipelines.split.grams import among, known, read_words, write_words
from data_pipelines.split.leakage import NONE, REASONS, Marks, Train, check_gate
from data_pipelines.split.marks import KINDS, read_asked, train_files

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

    def fates(self, folder: Path, novel: Sequence[bool]) -> list[Fate]:
        """One for each held-out row of a part, in their order; novel says which are meant to be."""
        return [self._fate(marks, is_novel) for (_, marks), is_novel in zip(read_asked(folder), novel, strict=True)]

    def _fate(self, marks: Marks, is_novel: bool) -> Fate:
        common = among(marks.runs, self.known["runs"])
        if len(common) and common.all():
            return Fate.GOES
        if not is_novel:
            return Fate.STAYS
        hits = {"runs": bool(common.any())}
        hits |= {kind: bool(among(getattr(marks, kind), self.known[kind]).any()) for kind in KINDS[1:]}
        reason = next((REASONS[kind] for kind in KINDS if hits[kind]), "")
        if reason:
            self.leaked[reason] += 1
        return Fate.MOVES if reason else Fate.STAYS

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
    write_words(scratch, (getattr(marks, kind) for folder in folders for _, marks in read_asked(folder)))
    taught = getattr(train, kind)
    return np.concatenate([NONE, *(words[known(words, taught)] for words in read_words(scratch))])
