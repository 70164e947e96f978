"""Run folders: ids, finding, and a state that is on disk after each change."""

import re
from pathlib import Path

import pytest

from finetune.contracts.errors import RunError
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.train.run_folder import RunFolder, find_run, new_run_id, read_state, run_recipe


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    state = RunState(
        run_id="tiny-1",
        recipe_name="tiny",
        base_path="/b",
        dataset_path="/d",
        dataset_digest="0",
        tracking_run_id=None,
        status="running",
        steps_done=0,
        steps_total=0,
    )
    found = RunFolder(RunLayout(tmp_path / "runs" / "tiny-1"), state)
    found.update()
    return found


def test_ids_hold_name_and_time_and_differ() -> None:
    first, second = new_run_id("tiny"), new_run_id("tiny")
    assert re.fullmatch(r"tiny-\d{8}-\d{6}-[0-9a-f]{4}", first)
    assert first != second


def test_each_change_is_on_disk(run: RunFolder) -> None:
    run.update(steps_done=3, status="interrupted")
    assert read_state(run.layout) == run.state
    assert (run.state.steps_done, run.state.status) == (3, "interrupted")


def test_a_run_is_found_by_id_and_by_path(run: RunFolder, tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert find_run(home, "tiny-1") == find_run(home, str(run.layout.root)) == run.layout


@pytest.mark.parametrize("name", ["", "tiny-2", "../elsewhere"])
def test_what_is_no_run_is_refused(run: RunFolder, tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="There is no run"):
        find_run(Home(tmp_path), name)


def test_a_damaged_state_and_a_lost_recipe_are_named(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"recipe\.resolved\.json does not exist"):
        run_recipe(Home(tmp_path), "tiny-1")
    run.layout.state.write_text('{"schema_version": 1')
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        read_state(run.layout)
