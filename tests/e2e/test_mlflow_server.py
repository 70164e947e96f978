"""A real MLflow server dies and comes back while a run is trained: every point is there once, and no step waits."""

import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from finetune.cli.main import run
from finetune.contracts.errors import MachineError
from finetune.contracts.run import Home, RunLayout
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import ResolvedRecipe, resolve
from finetune.tracking import delivery
from finetune.tracking.jsonl import parse
from finetune.tracking.mlflow import MlflowTracker
from finetune.train.run_folder import read_state, run_recipe
from finetune.train.sft import train
from tests.e2e.mlflow_server import Server

pytestmark = pytest.mark.slow
# far above what a call takes that only journals, far below what a client that retries would take
CALL_SECONDS = 1.0


class TimedTracker(MlflowTracker):
    """Acts when the loss of a step has come, and keeps how long each call with figures took."""

    def __init__(self, *args: Any, acts: Mapping[int, Callable[[], None]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.acts = dict(acts)
        self.seconds: dict[int, float] = {}

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        started = time.monotonic()
        super().metrics(step, values)
        if "train/loss" in values:
            self.seconds[step] = time.monotonic() - started
            self.acts.pop(step, lambda: None)()


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny run is over in seconds: a store that failed is tried again sooner than in earnest."""
    monkeypatch.setattr(delivery, "PACE_SECONDS", 0.2)
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.5)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def recipe(unit: Any, tiny_base: Path, tmp_path: Path, server: Server) -> ResolvedRecipe:
    dataset = unit.save_dataset(tmp_path / "dataset", unit.mixed_examples(8))
    path = unit.write_tiny_recipe(tmp_path, tiny_base, dataset)
    return resolve(load_recipe(path, ["train.max_steps=12", f"track.server={server.address}"]))


def tracked(recipe: ResolvedRecipe, home: Home, run_id: str, **acts: Callable[[], None]) -> TimedTracker:
    """The tracker of a run; acts are called after steps, named step_N."""
    by_step = {int(name.removeprefix("step_")): act for name, act in acts.items()}
    return TimedTracker(home, RunLayout(home.runs / run_id), server=recipe.track.server, acts=by_step)


def journaled(home: Home, run_id: str) -> Counter[tuple[str, int, float]]:
    entries = parse(RunLayout(home.runs / run_id).journal.read_bytes())
    return Counter(point for entry in entries for point in entry.points())


def recorded(server: Server, tracking_run_id: str) -> Counter[tuple[str, int, float]]:
    client = server.client()
    names = client.get_run(tracking_run_id).data.metrics
    return Counter(
        (name, point.step, point.value) for name in names for point in client.get_metric_history(tracking_run_id, name)
    )


def assert_recorded_once(server: Server, home: Home, run_id: str) -> None:
    state = read_state(RunLayout(home.runs / run_id))
    points = recorded(server, state.tracking_run_id or "")
    assert points == journaled(home, run_id)
    assert [step for name, step, _ in sorted(points) if name == "train/loss"] == list(range(1, 13))
    assert set(points.values()) == {1}
    found = server.client().get_run(state.tracking_run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["train.max_steps"] == "12"
    (version,) = server.client().search_model_versions("name = 'tiny'")
    assert version.tags["adapter_id"] == state.adapter_id
    files = {file.path for file in server.client().list_artifacts(state.tracking_run_id, "adapter")}
    assert "adapter/adapter_model.safetensors" in files


def test_a_server_that_died_and_came_back_has_every_point_once(
    recipe: ResolvedRecipe, home: Home, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = tracked(recipe, home, "shop-1", step_3=server.kill, step_8=server.start)
    state = train(recipe, home, tracker, run_id="shop-1")
    assert (state.status, state.steps_done) == ("finished", 12)
    assert_recorded_once(server, home, "shop-1")
    told = capsys.readouterr().err
    assert told.count("The tracking store failed, the run goes on") == 1
    assert told.count("The tracking store is back") == 1
    down = [tracker.seconds[step] for step in range(4, 9)]
    up = [tracker.seconds[step] for step in (1, 2, 3, *range(10, 13))]
    assert max(down) < CALL_SECONDS
    assert statistics.median(down) < statistics.median(up) + 0.3


def test_a_server_that_stays_down_gets_the_rest_and_the_end_from_the_next_command(
    recipe: ResolvedRecipe, home: Home, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    state = train(recipe, home, tracked(recipe, home, "shop-1", step_5=server.kill), run_id="shop-1")
    assert state.status == "finished"
    assert "`finetune runs list` records them" in capsys.readouterr().err
    assert run(["runs", "list", "--home", str(home.root)]) == 0
    server.start()
    assert server.client().get_run(state.tracking_run_id).info.status == "RUNNING"
    for _ in range(2):
        assert run(["runs", "list", "--home", str(home.root)]) == 0
    assert_recorded_once(server, home, "shop-1")
    assert f"1 of this home's runs, which MLflow's server at {server.address} has" in capsys.readouterr().err


def test_a_run_that_goes_on_is_the_same_run_there(recipe: ResolvedRecipe, home: Home, server: Server) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    tracker = tracked(recipe, home, "shop-1", step_3=server.kill, step_6=interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, home, tracker, run_id="shop-1")
    before = read_state(RunLayout(home.runs / "shop-1"))
    resumed = run_recipe(home, "shop-1")
    with pytest.raises(MachineError, match="does not answer"):
        train(resumed, home, tracked(resumed, home, "shop-1"), resume="shop-1")
    server.start()
    state = train(resumed, home, tracked(resumed, home, "shop-1"), resume="shop-1")
    assert state.tracking_run_id == before.tracking_run_id
    assert_recorded_once(server, home, "shop-1")


def test_a_server_that_hangs_delays_no_step(recipe: ResolvedRecipe, home: Home, server: Server) -> None:
    def freeze(number: int) -> Callable[[], None]:
        assert server._child is not None
        group = server._child.pid
        return lambda: os.killpg(group, number)

    acts = {"step_3": freeze(signal.SIGSTOP), "step_8": freeze(signal.SIGCONT)}
    tracker = tracked(recipe, home, "shop-1", **acts)
    train(recipe, home, tracker, run_id="shop-1")
    assert max(tracker.seconds[step] for step in range(4, 9)) < CALL_SECONDS
    assert_recorded_once(server, home, "shop-1")
