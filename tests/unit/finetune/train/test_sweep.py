"""Sweeps on the tiny base: one record over the runs, the best by the held-out sample, going on where one stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune.adapters.find import find_adapter
from finetune.cli.main import run
from finetune.contracts.errors import AdapterError, DatasetError, MachineError, RunError
from finetune.contracts.run import Home, RunLayout
from finetune.recipe.grid import resolve_grid
from finetune.recipe.resolve import ResolvedRecipe
from finetune.train import sweep as sweep_module
from finetune.train.run_folder import find_run, read_state
from finetune.train.sweep import begin_sweep, run_sweep
from finetune.train.sweep_record import Sweep, SweepResult, SweepRow, read_sweep

pytestmark = pytest.mark.slow
RATES = "train.learning_rate=1e-6,5e-3"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def recipe(resolved_tiny: Callable[..., ResolvedRecipe], tmp_path: Path) -> Path:
    resolved_tiny()
    return tmp_path / "tiny.yaml"


class Trackers:
    """Makes fake trackers, and keeps them by run."""

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind
        self.made: dict[str, Any] = {}
        self.parents: dict[str, str | None] = {}
        # called with each tracker that is made
        self.on_made: Callable[[str, Any], None] = lambda run_id, tracker: None

    def __call__(self, layout: RunLayout, parent: str | None) -> Any:
        tracker = self.kind()
        self.made[layout.root.name], self.parents[layout.root.name] = tracker, parent
        self.on_made(layout.root.name, tracker)
        return tracker


@pytest.fixture
def trackers(tracker: Any) -> Trackers:
    return Trackers(type(tracker))


def begin(recipe: Path, home: Home, *sweeps: str, overrides: Sequence[str] = ()) -> str:
    return begin_sweep(resolve_grid(recipe, overrides, sweeps), home)


def statuses(result: SweepResult) -> list[str]:
    return [row.status for row in result.rows]


def test_the_best_of_two_is_chosen(recipe: Path, home: Home, trackers: Trackers) -> None:
    sweep_id = begin(recipe, home, RATES)
    result = run_sweep(home, sweep_id, trackers)
    assert statuses(result) == ["finished", "finished"]
    assert [row.settings["train.learning_rate"] for row in result.rows] == ["1e-6", "5e-3"]
    first, second = (row.bits_per_byte or 0.0 for row in result.rows)
    before = {row.bits_per_byte_before for row in result.rows}
    assert len(before) == 1 and not result.worse_than_base
    assert f"{before.pop():.4f}" in result.text().splitlines()[2]
    assert first > second + 0.1 and result.best == result.rows[1].run_id == f"{sweep_id}-2"
    whole = trackers.made[sweep_id]
    assert whole.status == "finished"
    assert whole.values("sweep/bits_per_byte") == [(1, first), (2, second)]
    assert whole.card.parameters["train.learning_rate"] == "1e-6, 5e-3"
    assert trackers.parents == {sweep_id: None, f"{sweep_id}-1": "tracked-1", f"{sweep_id}-2": "tracked-1"}
    for row in result.rows:
        points = trackers.made[row.run_id].values("eval/bits_per_byte")
        assert points[-1] == (4, row.bits_per_byte)
    trackers.made.clear()
    assert run_sweep(home, sweep_id, trackers) == result
    assert trackers.made == {}


def stop_after(tracker: Any, steps: int) -> None:
    """Press Ctrl-C, so that the loop stops after so many steps."""
    keep = tracker.metrics

    def metrics(step: int, values: Mapping[str, float]) -> None:
        keep(step, values)
        if step == steps - 1 and "train/loss" in values:
            os.kill(os.getpid(), signal.SIGINT)

    tracker.metrics = metrics


def test_an_interrupted_sweep_goes_on_where_it_was(
    recipe: Path, home: Home, tmp_path: Path, trackers: Trackers, capsys: pytest.CaptureFixture[str]
) -> None:
    unbroken = run_sweep(other := Home(tmp_path / "other"), begin(recipe, other, RATES), Trackers(trackers.kind))
    sweep_id = begin(recipe, home, RATES)
    trackers.on_made = lambda run_id, tracker: stop_after(tracker, 3) if run_id.endswith("-2") else None
    with pytest.raises(KeyboardInterrupt):
        run_sweep(home, sweep_id, trackers)
    assert f"finetune train --resume {sweep_id}\n" in capsys.readouterr().err
    assert trackers.made[sweep_id].status == "interrupted"
    stopped = read_state(RunLayout(home.runs / f"{sweep_id}-2"))
    assert (stopped.status, stopped.steps_done) == ("interrupted", 3)
    later = Trackers(trackers.kind)
    result = run_sweep(home, sweep_id, later)
    assert set(later.made) == {sweep_id, f"{sweep_id}-2"}
    assert [step for step, _ in later.made[f"{sweep_id}-2"].values("train/loss")] == [4]
    assert later.made[f"{sweep_id}-2"].resumed == "tracked-1"
    assert [row.adapter_id for row in result.rows] == [row.adapter_id for row in unbroken.rows]
    assert [row.bits_per_byte for row in result.rows] == [row.bits_per_byte for row in unbroken.rows]


def test_a_run_that_goes_out_of_hand_stops_no_other_and_is_not_repeated(
    recipe: Path, home: Home, trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune.train.trl_bridge import BridgedTrainer

    original = BridgedTrainer.compute_loss

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        return loss * float("nan") if self.section.learning_rate > 1e-3 else loss

    monkeypatch.setattr(BridgedTrainer, "compute_loss", broken)
    sweep_id = begin(recipe, home, "train.learning_rate=5e-3,1e-6")
    result = run_sweep(home, sweep_id, trackers)
    assert statuses(result) == ["diverged", "finished"]
    assert result.rows[0].problem == "The loss is nan at step 1."
    assert result.best == result.rows[1].run_id and result.failed == ()
    assert read_sweep(home, sweep_id).finished
    assert "diverged" in result.text()


def test_a_best_value_at_the_edge_is_told() -> None:
    def result(key: str, values: Sequence[str], best: int) -> SweepResult:
        rows = tuple(
            SweepRow(run_id=str(place), settings={key: value}, status="finished") for place, value in enumerate(values)
        )
        return SweepResult(sweep_id="s", best=str(best), rows=rows)

    assert result("lora.rank", ["4", "16", "8"], 1).at_the_edge() == ("lora.rank",)
    assert result("lora.rank", ["4", "16", "8"], 2).at_the_edge() == ()
    assert result("lora.rank", ["4", "16"], 1).at_the_edge() == ()
    assert result("lora.targets", ["a", "b", "c"], 0).at_the_edge() == ()


def test_runs_that_are_all_worse_than_the_base_are_told() -> None:
    def result(best: float) -> SweepResult:
        row = SweepRow(
            run_id="1", settings={"lora.rank": "4"}, status="finished", bits_per_byte_before=1.5, bits_per_byte=best
        )
        return SweepResult(sweep_id="s", best="1", rows=(row,))

    assert result(1.5).worse_than_base and not result(1.4).worse_than_base


def test_the_rest_of_a_sweep_is_forecast_too(recipe: Path, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    sweep_id = begin(recipe, home, RATES)
    assert run(["train", "--resume", sweep_id, "--dry-run", "--json", "--home", str(home.root)]) == 0
    assert [run["num_steps"] for run in json.loads(capsys.readouterr().out)["runs"]] == [4, 4]
    assert run(["train", "--resume", sweep_id, "--set", "lora.rank=3", "--home", str(home.root)]) == 2


def test_a_sweep_is_no_run(recipe: Path, home: Home) -> None:
    sweep_id = begin(recipe, home, RATES)
    with pytest.raises(RunError, match="is a sweep, which has several runs"):
        find_run(home, sweep_id)
    with pytest.raises(AdapterError, match="is a sweep, which has several runs"):
        find_adapter(home, sweep_id)


def test_what_failed_is_tried_again(
    recipe: Path, home: Home, trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run_id: str, tracker: Any) -> None:
        if run_id.endswith("-1"):
            monkeypatch.setattr(tracker, "start", fail)

    def fail(*args: object, **kwargs: object) -> str:
        raise MachineError("No space left.", "Free some.")

    sweep_id = begin(recipe, home, RATES)
    trackers.on_made = refuse
    result = run_sweep(home, sweep_id, trackers)
    assert statuses(result) == ["failed", "finished"]
    assert result.failed[0].problem == "No space left."
    assert trackers.made[sweep_id].status == "failed"
    assert statuses(run_sweep(home, sweep_id, Trackers(trackers.kind))) == ["finished", "finished"]


def test_a_run_killed_before_its_first_state_is_begun_again(recipe: Path, home: Home, trackers: Trackers) -> None:
    sweep_id = begin(recipe, home, RATES)
    folder = home.runs / f"{sweep_id}-1"
    folder.mkdir()
    (folder / "recipe.resolved.json").write_text("{")
    assert statuses(run_sweep(home, sweep_id, trackers)) == ["finished", "finished"]


def test_a_dataset_that_changed_is_not_gone_on_with(recipe: Path, home: Home, trackers: Trackers) -> None:
    sweep_id = begin(recipe, home, RATES)
    layout = RunLayout(home.runs / sweep_id)
    document = json.loads(layout.sweep.read_text())
    layout.sweep.write_text(json.dumps({**document, "dataset_digest": "0" * 64}))
    with pytest.raises(RunError, match="has changed since the sweep"):
        run_sweep(home, sweep_id, trackers)
    assert trackers.made[sweep_id].status == "failed"


def test_two_processes_do_not_work_on_one_sweep(recipe: Path, home: Home, trackers: Trackers) -> None:
    sweep_id = begin(recipe, home, RATES)
    seen = []

    def second(run_id: str, tracker: Any) -> None:
        if run_id == f"{sweep_id}-1":
            with pytest.raises(RunError, match="Another process works on the sweep"):
                run_sweep(home, sweep_id, trackers)
            seen.append(run_id)
            raise KeyboardInterrupt

    trackers.on_made = second
    with pytest.raises(KeyboardInterrupt):
        run_sweep(home, sweep_id, trackers)
    assert len(seen) == 1


def test_nothing_held_out_is_nothing_to_choose_by(
    resolved_tiny: Callable[..., ResolvedRecipe],
    recipe: Path,
    home: Home,
    tmp_path: Path,
    make_dataset: Any,
    make_example: Any,
) -> None:
    from finetune.contracts.dataset import Role, Task

    folder = make_dataset(tmp_path / "all", [make_example(Task.PRETRAIN, [(Role.TARGET, "x = 1\n" * 9)])])
    with pytest.raises(DatasetError, match="holds no row out"):
        begin(recipe, home, RATES, overrides=[f"data.dataset={folder}"])
    assert not home.root.exists()


def test_a_base_does_not_outlive_its_run(
    recipe: Path, home: Home, trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a card of 24 GB the next base would not fit beside it."""
    import gc

    from peft import PeftModel
    from torch.nn import Embedding

    def num_models() -> int:
        return sum(issubclass(type(part), (PeftModel, Embedding)) for part in gc.get_objects())

    alive: list[int] = []
    free = sweep_module.free_memory

    def counted() -> None:
        free()
        alive.append(num_models())

    monkeypatch.setattr(sweep_module, "free_memory", counted)
    gc.collect()
    before = num_models()
    eight_bit = ["train.optimizer=paged_adamw_8bit"]
    run_sweep(home, begin(recipe, home, RATES, overrides=eight_bit), trackers)
    assert alive == [before, before]


def test_the_command_interrupted_and_gone_on_with_over_a_real_store(
    recipe: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the first run of the process; the second command does the rest."""
    from finetune.tracking.home_store import open_client

    words = ["train", str(recipe), "--sweep", RATES, "--home", str(home.root), "--json"]
    start = "from finetune.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", start, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Held-out sample at step 0"):
                break
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=100)
    (sweep_file,) = home.runs.glob("*/sweep.json")
    sweep = Sweep.model_validate_json(sweep_file.read_bytes())
    assert process.returncode == 130 and out == ""
    assert f"The whole sweep goes on with: finetune train --resume {sweep.sweep_id}\n" in told
    assert run(["train", "--resume", str(sweep_file.parent), "--home", str(home.root), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in document["rows"]] == ["finished", "finished"]
    assert document["best"] == f"{sweep.sweep_id}-2"
    client = open_client(home)
    experiment = client.get_experiment_by_name("finetune").experiment_id
    found = {item.info.run_name: item for item in client.search_runs([experiment])}
    parent = found.pop(sweep.sweep_id)
    assert set(found) == {f"{sweep.sweep_id}-1", f"{sweep.sweep_id}-2"}
    assert {item.data.tags["mlflow.parentRunId"] for item in found.values()} == {parent.info.run_id}
    assert {item.info.status for item in (parent, *found.values())} == {"FINISHED"}
    assert "mlflow.parentRunId" not in parent.data.tags
    assert document["best"] in parent.data.tags["mlflow.note.content"]
    best = document["rows"][1]["bits_per_byte"]
    assert parent.data.metrics["sweep/bits_per_byte"] == pytest.approx(best, rel=1e-5)


def test_the_command_says_what_a_sweep_would_do_and_what_is_wrong_with_it(
    recipe: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--home", str(home.root), "--json")
    assert run(["train", str(recipe), "--sweep", RATES, "--sweep", "lora.rank=2,4", "--dry-run", *place]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["runs"]) == 4 and document["settings"][0] == {"train.learning_rate": "1e-6", "lora.rank": "2"}
    assert run(["train", str(recipe), "--sweep", "lora.rank=0,4", "--sweep", "x=1,2", *place]) == 3
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2
    assert run(["train", "--sweep", RATES, *place]) == 2
    assert run(["train", "--resume", "nothing", "--sweep", RATES, *place]) == 2
    assert not home.root.exists()
