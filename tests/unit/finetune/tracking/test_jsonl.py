"""The journal on disk."""

import errno
import math
from pathlib import Path

import pytest

from finetune.contracts.errors import MachineError
from finetune.tracking.jsonl import Journal, last_kind, parse, to_number


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "run" / "tracking.jsonl"
    with Journal(path) as journal:
        journal.append("metrics", {"step": 3, "values": {"train/loss": 1.5, "train/x": to_number(math.nan)}})
        journal.append("finish", {"status": "finished"})
    first, second = parse(path.read_bytes())
    assert (first.number, second.number) == (1, 2)
    name, step, value = first.points()[0]
    assert (name, step, value) == ("train/loss", 3, 1.5)
    assert math.isnan(first.points()[1][2])
    assert second.points() == []
    assert last_kind(path) == "finish"


def test_a_line_cut_by_a_crash_is_dropped_and_numbers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "tracking.jsonl"
    with Journal(path) as journal:
        journal.append("describe", {"markdown": "a"})
    with path.open("ab") as stream:
        stream.write(b'{"line": 2, "at_ms": 1, "ki')
    with Journal(path) as journal:
        assert [entry.number for entry in journal.entries] == [1]
        journal.append("describe", {"markdown": "b"})
    assert [entry.body["markdown"] for entry in parse(path.read_bytes())] == ["a", "b"]


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    with Journal(tmp_path / "tracking.jsonl"), pytest.raises(MachineError, match="Another process is writing"):
        Journal(tmp_path / "tracking.jsonl")


def test_a_full_disk_is_returned_and_not_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(tmp_path / "tracking.jsonl") as journal:
        stream = journal._stream
        monkeypatch.setattr(journal, "_stream", type("Full", (), {"write": staticmethod(full)})())
        _, error = journal.append("describe", {"markdown": ""})
        monkeypatch.setattr(journal, "_stream", stream)
    assert error is not None and error.errno == errno.ENOSPC
