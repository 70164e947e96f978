"""The training path on the tiny base: what a run leaves behind, resuming, stopping, and every refusal."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.errors import DatasetError, MachineError, PlatformError, RunError, UsageError
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.recipe.resolve import ResolvedRecipe
from finetune.train.dry_run import dry_run
from finetune.train.forecast import RunForecast
from finetune.train.run_folder import run_recipe
from finetune.train.sft import train

pytestmark = pytest.mark.slow
Resolved = Callable[..., ResolvedRecipe]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def only_run(home: Home) -> RunLayout:
    (folder,) = home.runs.iterdir()
    return RunLayout(folder)


def read_run(home: Home) -> RunState:
    return RunState.model_validate_json(only_run(home).state.read_bytes())


def read_forecast(home: Home) -> RunForecast:
    return RunForecast.model_validate_json(only_run(home).forecast.read_bytes())


def weights(folder: Path) -> dict[str, Any]:
    return dict(load_file(folder / "adapter_model.safetensors"))


def largest_difference(first: Path, second: Path) -> float:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def stop_after(tracker: Any, steps: int, act: Callable[[], None]) -> None:
    """Let the fake tracker act, once, when the metrics of the step before arrive: the loop stops after steps."""
    keep = tracker.metrics

    def metrics(step: int, values: Mapping[str, float]) -> None:
        keep(step, values)
        if step == steps - 1 and "train/loss" in values:
            tracker.metrics = keep
            act()

    tracker.metrics = metrics


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_run_leaves_everything_it_should(resolved_tiny: Resolved, home: Home, tracker: Any) -> None:
    resolved = resolved_tiny()
    state = train(resolved, home, tracker)
    layout = only_run(home)
    assert state == read_run(home)
    assert (state.status, state.steps_done, state.steps_total) == ("finished", 4, 4)
    assert state.tracking_run_id == "tracked-1"
    assert run_recipe(home, state.run_id) == resolved
    manifest = read_adapter(layout.adapter)
    assert manifest.adapter_id == state.adapter_id
    assert read_adapter(home.adapters / manifest.adapter_id) == manifest
    assert manifest.run_id == state.run_id
    assert manifest.digests.dataset == state.dataset_digest == tracker.dataset_digest
    assert manifest.digests.recipe == resolved.digest()


def test_the_tracker_hears_everything(resolved_tiny: Resolved, home: Home, tracker: Any) -> None:
    state = train(resolved_tiny(), home, tracker)
    assert tracker.card.run_id == state.run_id
    assert tracker.status == "finished"
    assert ("recipe.resolved.json", "") in tracker.artifacts
    assert ("manifest.json", "dataset") in tracker.artifacts
    assert ("report.html", "dataset") not in tracker.artifacts
    assert "data_report" not in tracker.card.tags
    assert tracker.registered == [(state.adapter_id, "tiny")]
    assert state.adapter_id in tracker.description
    for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_second"):
        assert [step for step, _ in tracker.values(f"train/{name}")] == [1, 2, 3, 4]
    assert [step for step, _ in tracker.values("eval/bits_per_byte")] == [0, 4]
    assert tracker.values("system/memory_gib")[0][1] > 0.05


def test_a_run_records_its_utilisation_and_the_machines_peak(
    resolved_tiny: Resolved, home: Home, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    train(resolved_tiny(), home, tracker)
    for kind in ("model", "hardware"):
        points = tracker.values(f"train/{kind}_flop_utilisation_percent")
        assert [step for step, _ in points] == [1, 2, 3, 4]
        assert all(value > 0 for _, value in points)
    assert tracker.values("system/measured_peak_tflops")[0][1] > 0
    assert "Model FLOP utilisation" in capsys.readouterr().err
    assert "model FLOP utilisation" in tracker.description
    assert read_forecast(home).seconds is None
    assert ("forecast.json", "") in tracker.artifacts


def test_a_pass_before_the_first_step_changes_no_bit_and_is_compared(
    resolved_tiny: Resolved,
    tmp_path: Path,
    tracker: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("finetune.train.preflight.CPU_PASSES", 1)
    homes = {preflight: Home(tmp_path / preflight) for preflight in ("true", "false")}
    for preflight, home in homes.items():
        train(resolved_tiny("lora.dropout=0.1", f"train.preflight={preflight}"), home, tracker)
        told = capsys.readouterr().err
        for text in ("Longest pass: ", "Error of the forecast: time "):
            assert (text in told) is (preflight == "true")
    assert largest_difference(*(only_run(home).adapter for home in homes.values())) == 0.0
    found = read_forecast(homes["true"])
    assert found.seconds is not None and found.seconds.actual is not None and found.seconds.actual > 0
    assert found.seconds.error_percent == pytest.approx(100 * (found.seconds.forecast / found.seconds.actual - 1))
    assert tracker.values("system/forecast_time_error_percent") == [(4, found.seconds.error_percent)]
    # memory is that of a GPU
    assert found.memory_gib is None and found.preflight_gib is None


def test_a_resumed_run_keeps_the_forecast_it_began_with(
    resolved_tiny: Resolved, home: Home, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.train.preflight.CPU_PASSES", 1)
    stop_after(tracker, 2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(resolved_tiny(), home, tracker)
    before = read_forecast(home)
    assert before.seconds is not None and before.seconds.actual is None
    train(resolved_tiny(), home, tracker, resume=read_run(home).run_id)
    after = read_forecast(home)
    assert after.seconds is not None and after.seconds.actual is not None
    assert after.preflight_seconds == before.preflight_seconds
    # what came out is that of the two steps that were left
    assert after.seconds.forecast < before.seconds.forecast


def test_a_pass_that_does_not_fit_ends_the_run_with_what_would(
    resolved_tiny: Resolved, home: Home, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from finetune.plan.machine import Card
    from finetune.train.trl_bridge import BridgedTrainer

    def full(self: Any, number: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("finetune.train.preflight.CPU_PASSES", 1)
    monkeypatch.setattr("finetune.train.forecast._card", lambda device: Card("4090", 24_564, 165.0))
    monkeypatch.setattr(BridgedTrainer, "run_pass", full)
    with pytest.raises(MachineError, match="does not fit on 4090: CUDA out of memory") as caught:
        train(resolved_tiny(), home, tracker)
    assert "Nothing was changed for you" in caught.value.hint
    assert (read_run(home).status, tracker.values("train/loss")) == ("failed", [])


def test_training_lowers_the_held_out_loss(resolved_tiny: Resolved, home: Home, tracker: Any) -> None:
    train(resolved_tiny("train.max_steps=8"), home, tracker)
    (_, before), (_, after) = tracker.values("eval/loss")
    assert after < before - 0.2


def test_the_same_recipe_gives_the_same_weights(resolved_tiny: Resolved, tmp_path: Path, tracker: Any) -> None:
    first, second = (train(resolved_tiny(), Home(tmp_path / name), tracker) for name in "ab")
    assert first.adapter_id == second.adapter_id


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit", "paged_adamw_8bit"])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    resolved_tiny: Resolved, tmp_path: Path, tracker: Any, optimizer: str
) -> None:
    settings = (f"train.optimizer={optimizer}", "lora.dropout=0.1", "train.max_steps=5")
    unbroken = Home(tmp_path / "unbroken")
    train(resolved_tiny(*settings), unbroken, tracker)
    home = Home(tmp_path / "broken")
    stop_after(tracker, 3, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(resolved_tiny(*settings), home, tracker)
    stopped = read_run(home)
    assert (stopped.status, stopped.steps_done, tracker.status) == ("interrupted", 3, "interrupted")
    state = train(resolved_tiny("lora.rank=2"), home, tracker, resume=stopped.run_id)
    assert (state.status, state.steps_done, tracker.resumed) == ("finished", 5, "tracked-1")
    assert largest_difference(only_run(unbroken).adapter, only_run(home).adapter) == 0.0


def test_a_cut_checkpoint_falls_back_and_still_ends_the_same(
    resolved_tiny: Resolved, tmp_path: Path, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    unbroken = Home(tmp_path / "unbroken")
    train(resolved_tiny("train.max_steps=6"), unbroken, tracker)
    home = Home(tmp_path / "broken")
    stop_after(tracker, 5, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(resolved_tiny("train.max_steps=6"), home, tracker)
    optimizer = only_run(home).checkpoints / "step-000005" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-10])
    train(resolved_tiny(), home, tracker, resume=read_run(home).run_id)
    error = capsys.readouterr().err
    assert "step-000005/optimizer.pt was cut short" in error
    assert "Going on after step 4" in error
    assert largest_difference(only_run(unbroken).adapter, only_run(home).adapter) == 0.0


def test_a_run_that_failed_to_export_is_not_trained_again(
    resolved_tiny: Resolved, home: Home, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(5, "disk broke")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk broke"):
        patch.setattr("finetune.train.sft.write_adapter", fail)
        train(resolved_tiny(), home, tracker)
    assert (read_run(home).status, tracker.status) == ("failed", "failed")
    tracker.points.clear()
    assert train(resolved_tiny(), home, tracker, resume=read_run(home).run_id).status == "finished"
    assert tracker.values("train/loss") == []


def test_without_a_checkpoint_a_resumed_run_starts_again(
    resolved_tiny: Resolved, home: Home, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_after(tracker, 2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(resolved_tiny(), home, tracker)
    shutil.rmtree(only_run(home).checkpoints)
    assert train(resolved_tiny(), home, tracker, resume=read_run(home).run_id).steps_done == 4
    assert "starting again from the first step" in capsys.readouterr().err


def test_a_second_ctrl_c_stops_at_once(resolved_tiny: Resolved, home: Home, tracker: Any) -> None:
    before = signal.getsignal(signal.SIGINT)
    stop_after(tracker, 2, lambda: (interrupt(), interrupt())[0])
    with pytest.raises(KeyboardInterrupt):
        train(resolved_tiny(), home, tracker)
    assert read_run(home).status == "interrupted"
    assert not any(only_run(home).checkpoints.iterdir())
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_is_not_resumed(resolved_tiny: Resolved, home: Home, tracker: Any) -> None:
    state = train(resolved_tiny(), home, tracker)
    with pytest.raises(RunError, match="is finished"):
        train(resolved_tiny(), home, tracker, resume=state.run_id)


def test_an_unknown_run_is_named(resolved_tiny: Resolved, home: Home, tracker: Any) -> None:
    with pytest.raises(RunError, match="no run tiny-7"):
        train(resolved_tiny(), home, tracker, resume="tiny-7")


def test_the_page_about_the_dataset_is_on_the_run_once(
    resolved_tiny: Resolved, home: Home, tracker: Any, tmp_path: Path, tiny_dataset: Path
) -> None:
    ours = Path(shutil.copytree(tiny_dataset, tmp_path / "ours"))
    (ours / "report.html").write_text("<!DOCTYPE html>")
    stop_after(tracker, 2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(resolved_tiny(f"data.dataset={ours}"), home, tracker)
    assert tracker.card.tags["data_report"] == "dataset/report.html"
    later = type(tracker)()
    train(resolved_tiny(), home, later, resume=read_run(home).run_id)
    found = [("report.html", "dataset") in record.artifacts for record in (tracker, later)]
    assert found == [True, False]


def test_a_changed_dataset_is_not_resumed_on(
    resolved_tiny: Resolved, home: Home, tracker: Any, tmp_path: Path, make_dataset: Any, make_example: Any
) -> None:
    from finetune.contracts.dataset import Role, Split, Task

    def build(name: str, text: str) -> Path:
        rows = [make_example(Task.PRETRAIN, [(Role.TARGET, text * 9)], split=split) for split in Split]
        return Path(make_dataset(tmp_path / name, rows))

    ours = build("ours", "x = 1\n")
    stop_after(tracker, 2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(resolved_tiny(f"data.dataset={ours}"), home, tracker)
    shutil.rmtree(ours)
    shutil.copytree(build("other", "y = 2\n"), ours)
    with pytest.raises(RunError, match="has changed since the run"):
        train(resolved_tiny(), home, tracker, resume=read_run(home).run_id)


def refusals(tmp_path: Path) -> list[tuple[str, type[PlatformError], str]]:
    return [
        (f"data.dataset={tmp_path / 'nowhere'}", DatasetError, "There is no dataset in"),
        ("data.dataset=null", UsageError, "names no dataset"),
    ]


@pytest.mark.parametrize("index", [0, 1])
def test_a_missing_dataset_leaves_no_run_behind(
    resolved_tiny: Resolved, home: Home, tracker: Any, tmp_path: Path, index: int
) -> None:
    override, error, message = refusals(tmp_path)[index]
    with pytest.raises(error, match=message):
        train(resolved_tiny(override), home, tracker)
    assert not home.root.exists()
    assert tracker.card is None


def test_tasks_without_rows_are_refused(resolved_tiny: Resolved, home: Home, tracker: Any) -> None:
    others = [f"data.tasks.{name}=0" for name in ("infill", "docstring", "pretrain")]
    with pytest.raises(DatasetError, match="no row to learn from in the tasks commit_edit"):
        train(resolved_tiny(*others), home, tracker)
    assert (read_run(home).status, tracker.status) == ("failed", "failed")


def test_a_loss_that_is_not_finite_ends_the_run(
    resolved_tiny: Resolved, home: Home, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune.train.trl_bridge import BridgedTrainer

    original = BridgedTrainer.compute_loss

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 2 else loss

    monkeypatch.setattr(BridgedTrainer, "compute_loss", broken)
    with pytest.raises(RunError, match="The loss is nan at step 3"):
        train(resolved_tiny(), home, tracker)
    assert [path.name for path in only_run(home).checkpoints.iterdir()] == ["step-000002"]


def test_a_gradient_that_is_not_finite_ends_the_run_before_its_step(
    resolved_tiny: Resolved, home: Home, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune.train.trl_bridge import BridgedTrainer

    original = BridgedTrainer.training_step

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        if self.state.global_step == 1:
            next(part for part in self.model.parameters() if part.grad is not None).grad.fill_(float("inf"))
        return loss

    monkeypatch.setattr(BridgedTrainer, "training_step", broken)
    with pytest.raises(RunError, match="The gradient is not finite at step 2"):
        train(resolved_tiny("train.save_every_steps=1"), home, tracker)
    assert [path.name for path in only_run(home).checkpoints.iterdir()] == ["step-000001"]


def test_a_full_gpu_changes_nothing_by_itself(
    resolved_tiny: Resolved, home: Home, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from finetune.train.trl_bridge import BridgedTrainer

    calls = []

    def full(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(self.args.per_device_train_batch_size)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(BridgedTrainer, "training_step", full)
    with pytest.raises(MachineError, match="did not suffice for step 1: CUDA out of memory"):
        train(resolved_tiny(), home, tracker)
    assert len(calls) == 1
    assert (read_run(home).status, tracker.status) == ("failed", "failed")


def test_a_second_process_is_kept_out_of_a_run(resolved_tiny: Resolved, home: Home, tracker: Any) -> None:
    seen = []

    def second() -> None:
        with pytest.raises(RunError, match="Another process trains in") as caught:
            train(resolved_tiny(), home, type(tracker)(), resume=read_run(home).run_id)
        seen.append(caught.value)

    stop_after(tracker, 2, second)
    assert train(resolved_tiny(), home, tracker).status == "finished"
    assert len(seen) == 1


def test_a_dry_run_counts_and_writes_nothing(resolved_tiny: Resolved, home: Home) -> None:
    found = dry_run(resolved_tiny(), home=home)
    assert found.counts == {"infill": 8, "docstring": 8, "pretrain": 8}
    assert (found.num_steps, found.num_heldout) == (4, 24)
    assert 0 < found.num_loss_tokens < found.num_tokens
    assert json.loads(found.model_dump_json())["num_trainable"] > 0
    assert "trainable parameters" in found.text()
    assert not home.root.exists()
