"""MlflowTracker over a real SQLite store: what is recorded, and what happens when the store fails."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.dataset import DatasetManifest, Example
from finetune.contracts.errors import MachineError, RunError
from finetune.contracts.run import Home, RunLayout
from finetune.tracking.base import RunCard
from finetune.tracking.home_store import open_client
from finetune.tracking.jsonl import parse
from finetune.tracking.mlflow import MlflowTracker, replay
from finetune.tracking.mlflow_store import MlflowStore
from finetune.tracking.runs import list_runs
from tests.unit.manifests import build_manifest


def stored_points(home: Home) -> Counter[tuple[str, int, float]]:
    with sqlite3.connect(home.tracking_database) as connection:
        return Counter(connection.execute("SELECT key, step, value FROM metrics").fetchall())


def stored_run(home: Home) -> Any:
    client = open_client(home)
    experiment = client.get_experiment_by_name("finetune")
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def test_a_run_is_recorded_whole(
    home: Home,
    layout: RunLayout,
    card: RunCard,
    tracker: MlflowTracker,
    tmp_path: Path,
    make_dataset: Callable[[Path, Sequence[Example]], Path],
) -> None:
    folder = make_dataset(tmp_path / "dataset", [])
    manifest = DatasetManifest.model_validate_json((folder / "manifest.json").read_bytes())
    tracking_run_id = tracker.start(card)
    tracker.dataset(manifest, folder)
    for step in range(5):
        tracker.metrics(step, {"train/loss": 3.0 - step, "system/memory_gib": 1.5})
    tracker.artifact(folder / "manifest.json", "dataset")
    tracker.tag({"egress.attempts": "0"})
    tracker.describe("### Shop")
    tracker.finish("finished")

    run = stored_run(home)
    assert run.info.run_id == tracking_run_id
    assert run.data.tags["egress.attempts"] == "0"
    assert run.info.run_name == "shop-1"
    assert run.info.status == "FINISHED"
    assert run.data.params["lora.rank"] == "16"
    assert len(run.data.params["data.dataset"]) == 6000
    assert run.data.metrics == {"train/loss": -1.0, "system/memory_gib": 1.5}
    assert run.data.tags["recipe_digest"] == "abc"
    assert run.data.tags["environment.python"].startswith("3.")
    assert run.data.tags["mlflow.note.content"] == "### Shop"
    (entry,) = run.inputs.dataset_inputs
    assert manifest.content_digest.startswith(entry.dataset.digest)
    assert json.loads(entry.dataset.profile)["train_examples"] == 0
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    names = {str(path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()}
    assert names == {"dataset/manifest.json", "environment.txt", "plots/loss.png"}


def test_a_registered_version_says_which_groups_it_was_trained_on(home, card, tracker, tmp_path):
    (tmp_path / "adapter").mkdir()
    tracker.start(card)
    for name, visibility in (("ours", ("board", "internal")), ("old", ())):
        manifest = build_manifest(f"{name}-1", visibility=visibility)
        tracker.register(manifest, tmp_path / "adapter", name)
    tracker.finish("finished")
    found = {one.name: one.tags["visibility"] for one in open_client(home).search_model_versions()}
    assert found == {"ours": "board, internal", "old": "not stated"}


def test_what_a_broken_store_missed_is_recorded_once_when_it_is_back(
    home: Home, layout: RunLayout, card: RunCard, tracker: MlflowTracker, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker.start(card)
    tracker.metrics(0, {"train/loss": 3.0})
    tracker.describe("before")
    away = home.tracking_database.rename(home.root / "away.db")
    home.tracking_database.write_bytes(b"no database at all" * 100)
    for step in range(1, 20):
        tracker.metrics(step, {"train/loss": 3.0 - step})
    tracker.describe("after")
    tracker.finish("finished")
    assert "entries wait" in capsys.readouterr().err
    away.replace(home.tracking_database)

    (row,) = list_runs(home)
    assert (row.status, row.loss) == ("finished", 3.0 - 19)
    expected = Counter(("train/loss", step, 3.0 - step) for step in range(20))
    assert stored_points(home) == expected
    assert stored_run(home).data.tags["mlflow.note.content"] == "after"
    list_runs(home)
    assert replay(home, layout) == 0
    assert stored_points(home) == expected


def test_a_store_that_vanished_is_not_replaced_by_an_empty_one(
    home: Home, card: RunCard, tracker: MlflowTracker
) -> None:
    tracker.start(card)
    away = home.tracking_database.rename(home.root / "away.db")
    tracker.metrics(1, {"train/loss": 2.0})
    tracker.describe("after")
    tracker.finish("finished")
    assert not home.tracking_database.exists()
    away.replace(home.tracking_database)
    list_runs(home)
    assert stored_points(home) == Counter({("train/loss", 1, 2.0): 1})


def test_a_point_that_mlflow_refuses_costs_only_itself(
    home: Home, card: RunCard, tracker: MlflowTracker, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker.start(card)
    tracker.metrics(1, {"train/loss": 2.0})
    tracker.metrics(2, {"train/what?": 2.0})
    tracker.metrics(3, {"train/loss": 1.0})
    tracker.finish("finished")
    assert "only in the journal: metrics" in capsys.readouterr().err
    assert stored_points(home) == Counter({("train/loss", 1, 2.0): 1, ("train/loss", 3, 1.0): 1})


def test_a_locked_store_delays_no_step_and_loses_nothing(home: Home, card: RunCard, tracker: MlflowTracker) -> None:
    tracker.start(card)
    with sqlite3.connect(home.tracking_database, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        for step in range(50):
            tracker.metrics(step, {"train/loss": float(step)})
        other.execute("ROLLBACK")
    tracker.finish("finished")
    assert stored_points(home) == Counter(("train/loss", step, float(step)) for step in range(50))


def test_a_store_that_broke_between_data_and_mark_does_not_count_twice(
    home: Home, layout: RunLayout, card: RunCard, tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune.tracking.mlflow_store import MlflowStore

    def torn(_: MlflowStore, number: int) -> None:
        raise OSError("died here")

    tracker.start(card)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowStore, "confirm", torn)
        tracker.metrics(1, {"train/loss": 2.0})
        tracker.describe("one")
        tracker.finish("finished")
    list_runs(home)
    assert stored_points(home) == Counter({("train/loss", 1, 2.0): 1})


def test_a_killed_process_leaves_a_run_that_the_next_start_completes(
    home: Home, layout: RunLayout, card: RunCard, tracker: MlflowTracker
) -> None:
    first = tracker.start(card)
    assert tracker._journal is not None
    tracker._journal.append("metrics", {"step": 1, "values": {"train/loss": 2.5}})
    tracker._journal.close()
    again = MlflowTracker(home, layout)
    assert again.start(card) == first
    again.metrics(2, {"train/loss": 2.0})
    again.finish("finished")
    assert stored_points(home) == Counter({("train/loss", 1, 2.5): 1, ("train/loss", 2, 2.0): 1})


def test_a_killed_process_is_listed_as_interrupted_and_ends_with_its_last_sign_of_life(
    home: Home, layout: RunLayout, card: RunCard, tracker: MlflowTracker
) -> None:
    tracker.start(card)
    tracker.metrics(1, {"train/loss": 2.5})
    assert tracker._journal is not None
    tracker._journal.close()
    last = parse(layout.journal.read_bytes())[-1]
    (row,) = list_runs(home)
    assert row.status == "interrupted"
    assert stored_run(home).info.end_time == last.at_ms


def test_a_run_in_progress_is_left_alone(home: Home, card: RunCard, tracker: MlflowTracker) -> None:
    tracker.start(card)
    (row,) = list_runs(home)
    assert row.status == "running"
    tracker.metrics(1, {"train/loss": 2.5})
    tracker.finish("finished")


def test_a_later_process_keeps_what_the_run_began_with_and_its_end(
    home: Home, layout: RunLayout, card: RunCard, tracker: MlflowTracker
) -> None:
    first = tracker.start(card)
    tracker.metrics(1, {"train/loss": 2.0})
    tracker.finish("finished")
    ended = stored_run(home).info.end_time
    later = RunCard("shop-1", "finetune", "shop", {}, tags={"recipe_digest": "abc", "verdict": "better"})
    again = MlflowTracker(home, layout)
    again.start(later, resume=first)
    again.metrics(1, {"eval/bits_per_byte_base": 2.0})
    again.finish("finished")
    changed = RunCard("shop-1", "finetune", "shop", {}, tags={"recipe_digest": "other", "verdict": "worse"})
    again = MlflowTracker(home, layout)
    again.start(changed, resume=first)
    again.finish("finished")
    run = stored_run(home)
    assert run.info.end_time == ended
    assert run.data.tags["recipe_digest"] == "abc"
    assert run.data.tags["later.recipe_digest"] == "other"
    assert run.data.tags["verdict"] == "worse"


def test_an_entry_whose_file_is_gone_does_not_block_the_rest(
    home: Home, card: RunCard, tracker: MlflowTracker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker.start(card)
    tracker.artifact(tmp_path / "gone.txt")
    tracker.metrics(1, {"train/loss": 2.0})
    tracker.finish("finished")
    assert "gone.txt is gone" in capsys.readouterr().err
    assert stored_points(home) == Counter({("train/loss", 1, 2.0): 1})


def test_a_lost_store_is_filled_again_from_the_journal(
    home: Home, layout: RunLayout, card: RunCard, tracker: MlflowTracker, empty_store: Path
) -> None:
    tracker.start(card)
    tracker.metrics(1, {"train/loss": 2.0})
    tracker.finish("finished")
    home.tracking_database.write_bytes(empty_store.read_bytes())
    assert list_runs(home) == ()
    assert replay(home, layout) > 0
    (row,) = list_runs(home)
    assert (row.status, row.loss) == ("finished", 2.0)
    assert stored_run(home).data.params["lora.rank"] == "16"


def test_killed_while_the_store_is_made_the_next_start_makes_it(tmp_path: Path, card: RunCard) -> None:
    home = Home(tmp_path / "home")
    opens = "import sys; from pathlib import Path; from finetune.contracts.run import Home;"
    opens += "from finetune.tracking.home_store import open_client; open_client(Home(Path(sys.argv[1])))"
    with subprocess.Popen([sys.executable, "-c", opens, home.root]) as child:
        # some of its forty tables are there; all of them take seconds
        made = [home.root / "mlflow.new", home.tracking_database]
        while not any(path.exists() and path.stat().st_size > 60_000 for path in made):
            assert child.poll() is None
            time.sleep(0.005)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    tracker = MlflowTracker(home, RunLayout(home.runs / "shop-1"))
    tracker.start(card)
    tracker.finish("finished")
    assert stored_run(home).info.status == "FINISHED"
    assert sorted(path.name for path in home.root.glob("mlflow.*")) == ["mlflow.db", "mlflow.lock"]


@pytest.mark.slow
def test_two_that_begin_a_home_at_once_make_one_store(tmp_path: Path) -> None:
    home, go = Home(tmp_path / "home"), tmp_path / "go"
    opens = (
        "import pathlib, sys, time\n"
        "from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore\n"
        "from finetune.contracts.run import Home\n"
        "from finetune.tracking.home_store import open_client\n"
        "print('ready', flush=True)\n"
        "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.001)\n"
        "print(open_client(Home(pathlib.Path(sys.argv[1]))).get_experiment_by_name('Default').name)\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", opens, home.root, go], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for child in started:
        assert child.stdout and child.stdout.readline() == "ready\n"
    go.touch()
    told = [child.communicate(timeout=120) for child in started]
    assert [(child.returncode, out) for child, (out, _) in zip(started, told, strict=True)] == [(0, "Default\n")] * 3, (
        told
    )


def test_killed_before_its_parameters_were_recorded_a_run_gets_them(
    home: Home, card: RunCard, tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowStore, "_complete_parameters", lambda self: os.kill(os.getpid(), signal.SIGINT))
        tracker.start(card)
    assert stored_run(home).data.params == {}
    tracker.start(card)
    tracker.finish("finished")
    assert stored_run(home).data.params["lora.rank"] == "16"


def test_a_file_that_is_no_database_stops_the_start(home: Home, card: RunCard, tracker: MlflowTracker) -> None:
    home.tracking_database.write_bytes(b"text" * 1000)
    with pytest.raises(MachineError, match=r"mlflow\.db cannot be used: file is not a database"):
        tracker.start(card)
    assert home.tracking_database.read_bytes() == b"text" * 1000


def test_figures_that_are_no_numbers_are_recorded(home: Home, card: RunCard, tracker: MlflowTracker) -> None:
    tracker.start(card)
    tracker.metrics(1, {"train/loss": float("nan"), "train/gradient_norm": float("inf")})
    tracker.finish("failed")
    assert stored_run(home).info.status == "FAILED"
    assert set(stored_run(home).data.metrics) == {"train/loss", "train/gradient_norm"}


def test_replay_of_a_folder_without_a_journal_is_refused(home: Home) -> None:
    with pytest.raises(RunError, match="has no journal"):
        replay(home, RunLayout(home.root))


def test_no_runs_where_nothing_was_tracked(tmp_path: Path) -> None:
    assert list_runs(Home(tmp_path)) == ()
    assert not list(tmp_path.iterdir())
