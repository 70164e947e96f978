"""The gate over parts on disk: what held-out rows ask, looked up in what train rows teach."""

import numpy as np
import pytest

from data_pipelines.split.gate import Fate, open_gate
from data_pipelines.split.leakage import REASONS, Marks
from data_pipelines.split.marks import AskedFile, TaughtFiles, asked_words, read_asked
from finetune.contracts.errors import DatasetError


def words(*values):
    return np.array(values, np.uint64)


def part(folder, taught=(), asked=()):
    folder.mkdir()
    with TaughtFiles(folder) as files:
        for marks in taught:
            files.add(marks)
    with AskedFile(folder) as file:
        for number, marks in enumerate(asked):
            file.add(f"{folder.name}-{number}", marks)
    return folder


ASKED = [
    Marks(words(5, 9), words(), words()),
    Marks(words(), words(3), words()),
    Marks(words(), words(), words()),
    Marks(words(1, 2), words(), words(7, 2**64 - 1)),
]


def test_what_rows_ask_is_read_back_row_by_row(tmp_path):
    asked = read_asked(part(tmp_path / "a", asked=ASKED))
    assert asked.ids == ["a-0", "a-1", "a-2", "a-3"]
    for row, expected in enumerate(ASKED):
        found = asked.marks(row)
        assert [getattr(found, kind).tolist() for kind in ("runs", "functions", "changes")] == [
            getattr(expected, kind).tolist() for kind in ("runs", "functions", "changes")
        ]
    assert asked.sizes("runs").tolist() == [2, 0, 0, 2]
    assert asked.num_known("runs", words(2, 5, 9)).tolist() == [2, 0, 0, 1]
    assert asked.num_known("runs", words()).tolist() == [0, 0, 0, 0]
    assert sorted(asked_words(tmp_path / "a", "runs").tolist()) == [1, 2, 5, 9]


def test_a_part_without_held_out_rows_asks_nothing(tmp_path):
    asked = read_asked(part(tmp_path / "a"))
    assert not asked.ids
    assert not len(asked.sizes("runs"))
    assert not open_gate([tmp_path / "a"]).fates(asked, [])


@pytest.mark.parametrize(
    ("asked", "is_novel", "fate"),
    [
        (Marks(words(50)), True, Fate.STAYS),
        (Marks(words(50, 60)), True, Fate.MOVES),
        (Marks(words(50, 60)), False, Fate.STAYS),
        (Marks(words(60, 70)), True, Fate.GOES),
        (Marks(words(60, 70)), False, Fate.GOES),
        (Marks(words()), True, Fate.STAYS),
        (Marks(words(), words(8)), True, Fate.MOVES),
        (Marks(words(8), words(60), words(60)), True, Fate.STAYS),
        (Marks(words(50), words(), words(9)), True, Fate.MOVES),
        (Marks(words(50), words(), words(9)), False, Fate.STAYS),
    ],
)
def test_a_row_meets_its_fate_whatever_stands_beside_it(tmp_path, asked, is_novel, fate):
    """Runs 60 and 70, the function 8 and the change 9 are in train, each in a part of its own."""
    taught = [Marks(words(60)), Marks(words(70, 71)), Marks(words(1), words(8)), Marks(words(1), words(), words(9))]
    others = [part(tmp_path / f"train{number}", taught=[marks]) for number, marks in enumerate(taught)]
    beside = Marks(words(50, 60, 70), words(8), words(9))
    folder = part(tmp_path / "heldout", asked=[beside, asked, beside])
    gate = open_gate([*others, folder])
    assert gate.fates(read_asked(folder), [False, is_novel, False]) == [Fate.STAYS, fate, Fate.STAYS]
    assert sum(gate.leaked.values()) == (fate is Fate.MOVES)


def test_the_first_reason_is_counted(tmp_path):
    folder = part(tmp_path / "a", [Marks(words(1), words(2), words(3))], [Marks(words(4), words(2), words(3))] * 2)
    gate = open_gate([folder])
    gate.fates(read_asked(folder), [True, True])
    assert gate.leaked == {REASONS["functions"]: 2}


def test_a_row_that_the_gate_let_through_is_found_by_the_check(tmp_path):
    folder = part(tmp_path / "a", [Marks(words(1, 2), words(5))], [Marks(words(7)), Marks(words(9), words(5))])
    gate = open_gate([folder])
    gate.known["functions"] = words()
    asked = read_asked(folder)
    assert gate.fates(asked, [True, True]) == [Fate.STAYS, Fate.STAYS]
    with pytest.raises(DatasetError, match="1 of 2 rows.*Row a-1: a function"):
        gate.check([(asked.ids[row], asked.marks(row)) for row in range(2)])


def test_a_damaged_file_is_told_with_its_name(tmp_path):
    folder = part(tmp_path / "a", asked=ASKED)
    (folder / "asked.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"asked\.parquet is damaged"):
        read_asked(folder)
