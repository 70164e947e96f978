"""Checkpoints: whole or not there, damaged ones passed over with a note, foreign ones refused."""

import importlib.metadata
import os
import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.errors import MachineError, RunError
from finetune.train import checkpoints
from finetune.train.checkpoints import RECORD_NAME, CheckpointStore, Subject

NEEDS = ("weights",)
SUBJECT = Subject(run_id="run-1", base="b" * 64, dataset="d" * 64, recipe="r" * 64)


def filled(root: Path, *steps: int, keep: int = 5) -> CheckpointStore:
    store = CheckpointStore(root, SUBJECT, keep=keep, needs=NEEDS)
    for step in steps:
        store.save(step, rows_done=4 * step, write=lambda folder, step=step: write(folder, step))  # type: ignore[misc]
    return store


def write(folder: Path, step: int) -> None:
    (folder / "weights").write_bytes(bytes([step]) * 100)


def newest_step(store: CheckpointStore) -> int | None:
    found = store.newest()
    return found.record.step if found else None


def test_the_newest_is_found(tmp_path: Path) -> None:
    found = filled(tmp_path, 2, 4, 10).newest()
    assert found is not None
    assert (found.record.step, found.record.rows_done) == (10, 40)
    assert (found.folder / "weights").read_bytes() == b"\n" * 100


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert newest_step(CheckpointStore(tmp_path / "nowhere", SUBJECT, keep=1, needs=NEEDS)) is None


def test_only_the_newest_stay(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2, 3, 4, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003", "step-000004"]


@pytest.mark.parametrize("damage", ["cut", "altered", "missing", "record cut", "record missing"])
def test_a_damaged_one_falls_back_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    store = filled(tmp_path, 2, 4)
    weights, record = (tmp_path / "step-000004" / name for name in ("weights", RECORD_NAME))
    match damage:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:50])
        case "altered":
            weights.write_bytes(b"x" * 100)
        case "missing":
            weights.unlink()
        case "record cut":
            record.write_bytes(record.read_bytes()[:30])
        case _:
            record.unlink()
    assert newest_step(store) == 2
    assert "step-000004" in capsys.readouterr().err


def test_a_bit_flipped_anywhere_in_a_record_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = filled(tmp_path, 2, 4)
    path = tmp_path / "step-000004" / RECORD_NAME
    content = path.read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert newest_step(store) == 2, flipped[place - 20 : place + 20]
        assert "step-000004" in capsys.readouterr().err
    path.write_bytes(content)
    assert newest_step(store) == 4


def test_a_checkpoint_under_another_name_is_seen(tmp_path: Path) -> None:
    store = filled(tmp_path, 2, 4)
    (tmp_path / "step-000004").rename(tmp_path / "step-000006")
    assert newest_step(store) == 2


def test_all_damaged_is_none(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    (tmp_path / "step-000002" / "weights").write_bytes(b"")
    assert newest_step(store) is None


@pytest.mark.parametrize("part", ["run_id", "base", "dataset", "recipe"])
def test_one_of_another_run_is_refused(tmp_path: Path, part: str) -> None:
    filled(tmp_path, 2)
    store = CheckpointStore(tmp_path, SUBJECT.model_copy(update={part: "other"}), keep=2, needs=NEEDS)
    with pytest.raises(RunError, match=part.replace("_", " ")):
        store.newest()


def test_a_failed_write_leaves_the_one_before(tmp_path: Path) -> None:
    store = filled(tmp_path, 2, keep=1)

    def fail(folder: Path) -> None:
        write(folder, 4)
        raise OSError(5, "disk broke")

    with pytest.raises(OSError, match="disk broke"):
        store.save(4, rows_done=16, write=fail)
    assert newest_step(store) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    assert newest_step(filled(tmp_path, 2, 2)) == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_one_without_a_file_that_is_needed_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path, 2, 4)
    store = CheckpointStore(tmp_path, SUBJECT, keep=2, needs=("weights", "optimizer.pt"))
    assert store.newest() is None
    assert "holds no optimizer.pt" in capsys.readouterr().err


def test_one_of_other_libraries_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, 2)
    monkeypatch.setattr(
        checkpoints, "version", lambda name: "0.0.1" if name == "torch" else importlib.metadata.version(name)
    )
    with pytest.raises(RunError, match=r"written by torch \d.*; here is torch 0\.0\.1"):
        store.newest()


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(MachineError, match="0 MB are free") as caught:
        store.save(4, rows_done=16, write=lambda folder: write(folder, 4))
    assert "--resume run-1" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def save_and_die(store: CheckpointStore, step: int, *, at: int) -> bool:
    """Save in a child that kills itself at the at-th call of the system; whether it came to the end before that."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
    calls = count(1)

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    try:
        for name in ("mkdir", "open", "fsync", "chmod", "rename", "unlink", "rmdir"):
            setattr(os, name, dying(getattr(os, name)))
        store.save(step, rows_done=4 * step, write=lambda folder: write(folder, step))
        os._exit(0)
    finally:
        os._exit(1)


def test_killed_at_each_moment_of_a_save_one_is_whole(tmp_path: Path) -> None:
    found = set()
    for at in count(1):
        root = tmp_path / str(at)
        store = filled(root, 2, keep=1)
        ended = save_and_die(store, 4, at=at)
        step = newest_step(store)
        found.add(step)
        assert step in (2, 4)
        store.save(6, rows_done=24, write=lambda folder: write(folder, 6))
        assert [path.name for path in root.iterdir()] == ["step-000006"]
        if ended:
            break
    assert at > 10
    assert found == {2, 4}


def test_another_number_of_processes_is_refused_by_name(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    store = CheckpointStore(tmp_path, SUBJECT, keep=5, needs=NEEDS, num_processes=2)
    with pytest.raises(RunError, match=r"step-000002 was written by 1 processes; here are 2"):
        store.newest()


def test_each_process_needs_its_random_state() -> None:
    assert "rng_state.pth" in checkpoints.needed_files(1)
    assert {"rng_state_0.pth", "rng_state_1.pth"} < set(checkpoints.needed_files(2))
    assert "rng_state.pth" not in checkpoints.needed_files(2)
