"""Checkpoints: whole or not there, damaged ones passed over with a note, foreign ones refused."""

from pathlib import Path

import pytest

from finetune.contracts.errors import RunError
from finetune.train.checkpoints import RECORD_NAME, CheckpointStore, Subject

SUBJECT = Subject(run_id="run-1", base="b" * 64, dataset="d" * 64, recipe="r" * 64)


def filled(root: Path, *steps: int, keep: int = 5) -> CheckpointStore:
    store = CheckpointStore(root, SUBJECT, keep=keep)
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
    assert newest_step(CheckpointStore(tmp_path / "nowhere", SUBJECT, keep=1)) is None


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


def test_all_damaged_is_none(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    (tmp_path / "step-000002" / "weights").write_bytes(b"")
    assert newest_step(store) is None


@pytest.mark.parametrize("part", ["run_id", "base", "dataset", "recipe"])
def test_one_of_another_run_is_refused(tmp_path: Path, part: str) -> None:
    filled(tmp_path, 2)
    store = CheckpointStore(tmp_path, SUBJECT.model_copy(update={part: "other"}), keep=2)
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
