import os
import stat

import pytest

from data_pipelines.engine.work import KEY_BYTES, KEY_NAME, locked, own_key, recover, work_of, write_private
from finetune.contracts.errors import MachineError
from tests.unit.data_pipelines.building import build, bytes_of, data_folder


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_each_dataset_has_its_own_work_folder(tmp_path):
    folders = [work_of(tmp_path, tmp_path / place / "shop").folder for place in ("a", "b")]
    assert folders[0] != folders[1]
    assert {folder.parent for folder in folders} == {tmp_path}
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert work_of(tmp_path, tmp_path / "link" / "shop").folder == folders[0]


def test_a_second_build_of_a_dataset_is_refused_and_another_is_not(tmp_path):
    work = work_of(tmp_path, tmp_path / "out")
    with locked(work):
        with pytest.raises(MachineError, match="Another build of this dataset is at work") as caught, locked(work):
            pass
        assert str(work.folder) in caught.value.message
        with locked(work_of(tmp_path, tmp_path / "other")):
            pass
    with locked(work):
        pass


def test_a_build_while_another_is_at_work_changes_nothing(shop, tmp_path):
    out = tmp_path / "out"
    build([shop], out)
    before = bytes_of(out)
    with locked(work_of(data_folder(out), out)), pytest.raises(MachineError, match="Another build"):
        build([shop], out, seed=5)
    assert bytes_of(out) == before


def test_the_refused_build_leaves_the_inputs_of_the_one_at_work(tmp_path):
    work = work_of(tmp_path, tmp_path / "out")
    with locked(work):
        stage = work.new_stage("read")
        with pytest.raises(MachineError), locked(work):
            pass
        assert stage.is_dir()


def test_inputs_of_a_killed_build_do_not_stay(tmp_path):
    work = work_of(tmp_path, tmp_path / "out")
    with locked(work):
        stage = work.new_stage("read")
        write_private(stage / "settings.json", "the key")
        assert mode_of(stage / "settings.json") == 0o600
        assert mode_of(stage) == 0o700
    with locked(work):
        assert list(work.stages.iterdir()) == []
        assert work.new_stage("read") != stage


def test_the_store_of_another_version_does_not_stay(tmp_path):
    work = work_of(tmp_path, tmp_path / "out")
    work.folder.mkdir(parents=True)
    for path in (work.store, work.store.with_name("store-1.db")):
        path.write_bytes(b"texts")
    with locked(work):
        assert list(work.folder.glob("store*")) == [work.store]


def test_the_key_is_made_once_and_read_by_its_owner_alone(tmp_path):
    old = os.umask(0)
    try:
        key = own_key(tmp_path / "data")
    finally:
        os.umask(old)
    assert len(key) == KEY_BYTES
    assert own_key(tmp_path / "data") == key
    assert mode_of(tmp_path / "data" / KEY_NAME) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == [KEY_NAME]
    assert own_key(tmp_path / "other") != key


def test_a_build_that_began_at_the_same_time_and_was_first_gives_the_key(tmp_path, monkeypatch):
    plain = os.urandom

    def urandom(number):
        (tmp_path / KEY_NAME).write_bytes(b"f" * KEY_BYTES)
        return plain(number)

    monkeypatch.setattr("data_pipelines.engine.work.os.urandom", urandom)
    assert own_key(tmp_path) == own_key(tmp_path) == b"f" * KEY_BYTES
    assert [path.name for path in tmp_path.iterdir()] == [KEY_NAME]


def test_a_dataset_whose_swap_was_interrupted_is_put_back(tmp_path):
    old = tmp_path / ".out.old.abc" / "was"
    old.mkdir(parents=True)
    (old / "manifest.json").write_text("{}")
    (tmp_path / ".out.new.def").mkdir()
    recover(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "manifest.json").read_text() == "{}"


def test_a_dataset_that_is_there_stays_and_what_was_left_beside_it_goes(tmp_path):
    for name in ("out", ".out.old.abc/was", ".out.new.def", ".other.new.ghi", ".other.old.jkl/was"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "out" / "manifest.json").write_text("new")
    (tmp_path / ".out.old.abc" / "was" / "manifest.json").write_text("old")
    recover(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.new.ghi", ".other.old.jkl", "out"]
    assert (tmp_path / "out" / "manifest.json").read_text() == "new"


def test_a_build_after_an_interrupted_swap_finds_what_was_decided_before(shop, tmp_path):
    out = tmp_path / "out"
    build([shop], out)
    before = bytes_of(out)
    (tmp_path / ".out.old.abc").mkdir()
    out.rename(tmp_path / ".out.old.abc" / "was")
    (tmp_path / ".out.new.def").mkdir()
    build([shop], out)
    assert bytes_of(out) == before
    assert list(tmp_path.glob(".out.*")) == []


def test_what_no_build_needs_any_more_is_swept_away(tmp_path):
    work = work_of(tmp_path, tmp_path / "out")
    with locked(work):
        for folder in (work.surveys, work.parts):
            for name in ("kept", "gone"):
                (folder / name).mkdir()
        (work.packs / ".x.db.17").write_text("of a worker that was killed")
        (work.packs / "y.db").write_text("a result")
        work.new_stage("write")
        work.sweep(surveys=["kept"], parts=["kept"])
    assert [path.name for path in work.surveys.iterdir()] == ["kept"]
    assert [path.name for path in work.parts.iterdir()] == ["kept"]
    assert [path.name for path in work.packs.iterdir()] == ["y.db"]
    assert not work.stages.exists()
