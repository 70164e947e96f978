"""What is published is on the disk before: a power cut leaves the old or the new, whole."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.contracts import io
from finetune.contracts.chain import Chain


@pytest.fixture
def calls(monkeypatch, tmp_path) -> list[tuple[str, str]]:
    """Each fsync, rename and replace with the path that it is of, below tmp_path, in order."""
    seen: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def named(path: object) -> str:
        return os.path.relpath(os.fspath(path), tmp_path)

    def on_fsync(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(("fsync", named(os.readlink(f"/proc/self/fd/{descriptor}"))))

    def moves(kind: Callable) -> Callable:
        def move(source, target) -> None:
            kind(source, target)
            seen.append(("rename", f"{named(source)} -> {named(target)}"))

        return move

    monkeypatch.setattr(os, "fsync", on_fsync)
    monkeypatch.setattr(os, "rename", moves(rename))
    monkeypatch.setattr(os, "replace", moves(replace))
    return seen


def test_a_file_is_synced_before_its_name_and_its_folder_after(tmp_path, calls):
    io.write_text(tmp_path / "folder" / "state.json", "new")
    (first, scratch), (second, move), (third, folder) = calls
    assert (first, second, third) == ("fsync", "rename", "fsync")
    assert move == f"{scratch} -> folder/state.json" and folder == "folder"


def test_a_folder_is_synced_whole_before_its_name_and_its_parent_after(tmp_path, calls):
    with io.new_folder(tmp_path / "dataset") as scratch:
        (scratch / "inner").mkdir()
        for name in ("manifest.json", "inner/shard"):
            (scratch / name).write_text(name)
    place = calls.index(next(call for call in calls if call[0] == "rename"))
    synced = {Path(path).relative_to(scratch.name).as_posix() for kind, path in calls[:place] if kind == "fsync"}
    assert synced == {"manifest.json", "inner", "inner/shard"}
    assert calls[place:] == [("rename", f"{scratch.name} -> dataset"), ("fsync", ".")]


def test_an_entry_of_a_record_is_synced_before_it_counts(tmp_path, calls):
    with Chain(tmp_path / "record.jsonl", notice=print).open() as record:
        record.append("promoted", {"model": "shop"})
        assert calls == [("fsync", "record.jsonl"), ("fsync", ".")]
