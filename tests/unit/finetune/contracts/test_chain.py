"""The record: what is told apart, line by line."""

import multiprocessing
import time
from pathlib import Path

import pytest

from finetune.contracts.chain import Chain, live_places
from finetune.contracts.errors import RunError


def fill(path: Path, number: int = 4) -> Chain:
    chain = Chain(path, notice=lambda text: None)
    with chain.open() as record:
        for count in range(number):
            record.append("noted", {"count": count})
    return chain


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_entries_are_numbered_and_linked(tmp_path):
    entries = fill(tmp_path / "releases.jsonl").read()
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4]
    assert [entry.previous for entry in entries[1:]] == [entry.digest for entry in entries[:-1]]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"count":1', b'"count":7'), *lines[2:]], 2),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[0], lines[1], lines[1], *lines[2:]], 3),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], 2),
        (lambda lines: [lines[0], b"no entry\n", *lines[2:]], 2),
    ],
    ids=["changed", "removed", "inserted", "moved", "damaged"],
)
def test_a_line_that_is_wrong_is_named_and_nothing_is_appended(tmp_path, change, line):
    path = tmp_path / "releases.jsonl"
    chain = fill(path)
    path.write_bytes(b"".join(change(lines_of(path))))
    before = path.read_bytes()
    with pytest.raises(RunError, match=rf"releases\.jsonl:{line}:"):
        chain.read()
    with pytest.raises(RunError, match=rf"releases\.jsonl:{line}:"), chain.open() as record:
        record.append("noted", {})
    assert path.read_bytes() == before


def test_the_torn_end_of_a_killed_write_is_cut_off_with_a_notice(tmp_path):
    path, said = tmp_path / "releases.jsonl", []
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    chain = Chain(path, notice=said.append)
    assert len(chain.read()) == 3
    with chain.open() as record:
        record.append("noted", {"count": 9})
    assert [entry.body["count"] for entry in chain.read()] == [0, 1, 2, 9]
    assert len(said) == 1 and "unfinished last line" in said[0]


def _append(path: Path) -> None:
    for _ in range(5):
        fill(path, 1)


def test_six_processes_lose_no_entry(tmp_path):
    path = tmp_path / "releases.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(path,)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(Chain(path, notice=print).read()) == 30


def _waits_for_a_lock(pid: int) -> bool:
    waiting = (line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line)
    return str(pid) in {word for words in waiting for word in words}


def test_a_second_writer_waits_for_the_first(tmp_path):
    path = tmp_path / "releases.jsonl"
    with fill(path).open() as record:
        other = multiprocessing.get_context("spawn").Process(target=fill, args=(path, 1))
        other.start()
        while not _waits_for_a_lock(other.pid):
            assert other.is_alive(), "it did not wait"
            time.sleep(0.01)
        record.append("noted", {"count": 4})
    other.join()
    assert [entry.body["count"] for entry in Chain(path, notice=print).read()] == [0, 1, 2, 3, 4, 0]


def test_what_is_live_follows_promotions_and_rollbacks(tmp_path):
    chain = Chain(tmp_path / "releases.jsonl", notice=lambda text: None)
    with chain.open() as record:
        for kind, alias, adapter in (
            ("promoted", "champion", "one-1"),
            ("promoted", "challenger", "two-2"),
            ("promoting", "champion", "two-2"),
            ("promoted", "champion", "two-2"),
            ("rolled back", "champion", "one-1"),
        ):
            record.append(kind, {"model": "ours", "alias": alias, "adapter_id": adapter})
    found = live_places(chain.read())
    assert {adapter: [str(place) for place in places] for adapter, places in found.items()} == {
        "one-1": ["ours@champion"],
        "two-2": ["ours@challenger"],
    }
