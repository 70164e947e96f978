"""Checkpoints of a real run: each file damaged in each way is refused by name, and the one before is used."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.contracts.adapter import ADAPTER_WEIGHTS_NAME
from finetune.contracts.io import digest_file, digest_text
from finetune.contracts.run import Home, RunLayout
from finetune.train.checkpoints import RECORD_NAME, TRAINER_FILES, CheckpointRecord, CheckpointStore
from finetune.train.run_folder import read_state, run_recipe
from finetune.train.sft import train

pytestmark = pytest.mark.slow


@pytest.fixture
def store(trained_home: Home, tmp_path: Path) -> CheckpointStore:
    """A copy of the two checkpoints, after steps 2 and 4, of a run that has ended."""
    (folder,) = trained_home.runs.iterdir()
    shutil.copytree(RunLayout(folder).checkpoints, tmp_path / "checkpoints")
    record = CheckpointRecord.model_validate_json((tmp_path / "checkpoints" / "step-000004" / RECORD_NAME).read_bytes())
    return CheckpointStore(tmp_path / "checkpoints", record.subject, keep=2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
@pytest.mark.parametrize("name", [*TRAINER_FILES, RECORD_NAME])
def test_each_file_that_is_damaged_is_named_and_the_one_before_used(
    store: CheckpointStore, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    folder = store.root / "step-000004"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*TRAINER_FILES, RECORD_NAME])
    damage(folder / name)
    found = store.newest()
    assert found is not None
    assert found.folder.name == "step-000002"
    assert str(folder / name) in capsys.readouterr().err


class Recorder:
    """Copies what stands on the disk at each call of the system in one save: what a kill at that moment would leave."""

    def __init__(self, home: Home, folder: Path) -> None:
        self.home, self.folder = home, folder
        self.moments: dict[str, Path] = {}
        self._looking = False

    def look(self) -> None:
        """Keep the home as it is, if it is like none before; a file that was just written also cut in half."""
        if (state := digest_tree(self.home.runs)) not in self.moments:
            self.moments[state] = self._keep(f"{len(self.moments)}")
            scratch = [path for path in self.home.runs.glob("*/checkpoints/.step-*/*") if path.stat().st_size > 1]
            if scratch:
                youngest = max(scratch, key=lambda path: path.stat().st_mtime_ns)
                place = self._keep(f"{len(self.moments)}-cut")
                cut(place / youngest.relative_to(self.home.root))
                self.moments[f"{state}-cut"] = place

    def _keep(self, name: str) -> Path:
        return Path(shutil.copytree(self.home.root, self.folder / name))

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """function, with a look before it is called."""

        def call(*args: Any, **kwargs: Any) -> Any:
            # looking calls the system too
            if not self._looking:
                self._looking = True
                self.look()
                self._looking = False
            return function(*args, **kwargs)

        return call


def digest_tree(folder: Path) -> str:
    return digest_text(
        "\n".join(
            f"{path.relative_to(folder)} {digest_file(path) if path.is_file() else ''}"
            for path in sorted(folder.rglob("*"))
        )
    )


def test_killed_at_each_moment_of_a_save_a_run_ends_with_the_same_weights(
    resolved_tiny: Callable[..., Any], tmp_path: Path, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills between steps are tried by bench/kill_train.py, with real processes."""
    home = Home(tmp_path / "home")
    recorder = Recorder(home, tmp_path / "killed")
    save = CheckpointStore.save

    def watched(store: CheckpointStore, step: int, **options: Any) -> Path:
        if step != 4:
            return save(store, step, **options)
        with monkeypatch.context() as patch:
            for name in ("mkdir", "fsync", "chmod", "rename", "replace", "unlink", "rmdir"):
                patch.setattr(os, name, recorder.watch(getattr(os, name)))
            patch.setattr(torch, "save", recorder.watch(torch.save))
            return save(store, step, **options)

    settings = ("train.max_steps=5", "train.keep_checkpoints=1", "lora.dropout=0.1", "evaluate.max_rows=1")
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", watched)
        state = train(resolved_tiny(*settings), home, tracker)
    wanted = (home.runs / state.run_id / "adapter" / ADAPTER_WEIGHTS_NAME).read_bytes()
    begun_at = set()
    for place in recorder.moments.values():
        killed = Home(place)
        layout = RunLayout(killed.runs / state.run_id)
        assert read_state(layout).status == "running"
        tracker.points.clear()
        assert train(run_recipe(killed, state.run_id), killed, tracker, resume=state.run_id).status == "finished"
        assert (layout.adapter / ADAPTER_WEIGHTS_NAME).read_bytes() == wanted, place
        begun_at.add(tracker.values("train/loss")[0][0])
        assert not list(layout.checkpoints.glob(".*"))
    assert len(recorder.moments) >= 12
    assert begun_at == {3, 5}
