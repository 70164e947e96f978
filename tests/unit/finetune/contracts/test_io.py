"""Writes replace or leave; digests change with content."""

import errno
import os
from pathlib import Path

import pytest

from finetune.contracts import io
from finetune.contracts.dataset import ReasonCount
from finetune.contracts.errors import DatasetError, InputError, MachineError


def test_a_write_that_fails_leaves_the_old_content_and_no_scrap(tmp_path, monkeypatch):
    target = tmp_path / "file.json"
    io.write_text(target, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="No space left on the disk that holds .*file.json"):
        io.write_text(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_new_folder_takes_the_place_of_the_old_one_only_at_the_end(tmp_path):
    target = tmp_path / "dataset"
    target.mkdir()
    (target / "old").write_text("1")
    with io.new_folder(target) as scratch:
        (scratch / "new").write_text("2")
        assert (target / "old").exists()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_new_folder_that_fails_changes_nothing(tmp_path):
    target = tmp_path / "dataset"
    target.mkdir()
    (target / "old").write_text("1")

    def interrupted() -> None:
        with io.new_folder(target) as scratch:
            (scratch / "new").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_an_unwritable_folder_is_the_machines_fault(tmp_path, monkeypatch):
    def denied(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(MachineError, match="cannot be written"):
        io.write_text(tmp_path / "a" / "b", "x")


def test_read_model_names_the_file_and_the_field(tmp_path):
    path = tmp_path / "row.json"
    with pytest.raises(DatasetError, match="row.json does not exist"):
        io.read_model(path, ReasonCount, error=DatasetError, hint="Build it.")
    path.write_text('{"stage": "size", "reason": "too long", "count": -1}')
    with pytest.raises(DatasetError, match="row.json is damaged: count: .*greater than or equal to 0"):
        io.read_model(path, ReasonCount, error=DatasetError, hint="Build it.")
    path.write_text('{"stage": "si')
    with pytest.raises(DatasetError, match="is damaged"):
        io.read_model(path, ReasonCount, error=DatasetError, hint="Build it.")


def test_digests_see_one_bit_and_names_but_not_order(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"x" * 3_000_000)
    second.write_bytes(b"y")
    before = io.digest_files([first, second])
    assert before == io.digest_files([second, first])
    second.write_bytes(b"z")
    assert io.digest_files([first, second]) != before
    assert io.digest_file(first) == io.digest_bytes(b"x" * 3_000_000)


def test_canonical_json_ignores_the_order_of_keys():
    assert io.digest_json({"a": 1, "b": [2]}) == io.digest_json({"b": [2], "a": 1})
    assert io.digest_json({"a": 1}) != io.digest_json({"a": 2})


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_what_is_no_file_is_not_read(tmp_path, make):
    path = tmp_path / "manifest.json"
    make(path)
    with pytest.raises(DatasetError, match=r"manifest.json cannot be read: it is no file"):
        io.read_model(path, ReasonCount, error=DatasetError, hint="Build it again.")
    with pytest.raises(InputError, match=r"manifest.json is no file"):
        io.digest_file(path)
