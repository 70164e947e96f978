"""Looks at the held-out sample: when they are made, which is the best, when they end training, what a run keeps."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.errors import DatasetError
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.recipe.resolve import ResolvedRecipe
from finetune.recipe.schema import TrainSection
from finetune.train import sft
from finetune.train.data import HeldoutLoss
from finetune.train.dry_run import dry_run
from finetune.train.looks import Advice, Looks, num_looks
from finetune.train.sft import train

Resolved = Callable[..., ResolvedRecipe]
STOPPING = ("train.evaluate_every_steps=1", "train.stop_after_worse=2", "train.keep_checkpoints=1")


def section(**values: object) -> TrainSection:
    return TrainSection.model_validate({"evaluate_every_steps": 1, "stop_after_worse": 2, **values})


def looks_of(figures: Sequence[float], tracker: Any, **values: object) -> Looks:
    """Looks that find these bits per byte, one after the other."""
    rest = iter(figures)
    return Looks(lambda: HeldoutLoss(1.0, next(rest)), section(**values), tracker)


def advise(looks: Looks, steps: int) -> list[Advice]:
    looks.look(0)
    return [looks.after_step(step, last=step == steps) for step in range(1, steps + 1)]


def test_each_better_look_is_saved_and_two_worse_ones_stop(tracker: Any) -> None:
    looks = looks_of([3.0, 2.0, 2.5, 1.5, 1.6, 1.5], tracker)
    found = advise(looks, 5)
    assert [advice.save for advice in found] == [True, False, True, False, False]
    assert [advice.stop for advice in found] == [False, False, False, False, True]
    assert looks.best_step(5) == 3 and looks.best_step(2) == 1 and looks.best_step(0) is None
    assert tracker.values("eval/bits_per_byte") == [(0, 3.0), (1, 2.0), (2, 2.5), (3, 1.5), (4, 1.6), (5, 1.5)]


def test_what_was_before_the_first_step_counts_for_nothing(tracker: Any, capsys: pytest.CaptureFixture[str]) -> None:
    looks = looks_of([1.0, 3.0, 2.5, 2.0], tracker)
    assert not any(advice.stop for advice in advise(looks, 3))
    best = looks.best()
    assert best is not None and best.step == 3
    looks.report(best, 3)
    assert "no better than the base" in capsys.readouterr().err


def test_a_figure_that_is_no_number_is_never_the_best(tracker: Any, tmp_path: Path) -> None:
    looks = looks_of([3.0, float("nan"), 2.0, float("nan")], tracker)
    advise(looks, 3)
    assert looks.best_step(3) == 2
    looks.write(tmp_path)
    again = looks_of([], tracker)
    again.restore(tmp_path)
    assert again.best_step(3) == 2 and len(again.made) == 4


def test_looks_are_made_when_due_and_after_the_last_step(tracker: Any) -> None:
    looks = looks_of([9.0] * 9, tracker, evaluate_every_steps=3, stop_after_worse=None)
    found = advise(looks, 8)
    assert [look.step for look in looks.made] == [0, 3, 6, 8]
    assert set(found) == {Advice()} and looks.best() is None
    assert num_looks(section(evaluate_every_steps=3), 8) == 4
    assert num_looks(section(evaluate_every_steps=3), 9) == 4
    assert num_looks(TrainSection(), 9) == 2


def test_without_the_switch_the_loop_looks_at_nothing(tracker: Any) -> None:
    looks = looks_of([9.0], tracker, evaluate_every_steps=None, stop_after_worse=None)
    assert advise(looks, 4) == [Advice()] * 4
    assert len(looks.made) == 1


def test_counting_looks_that_are_never_made_is_refused() -> None:
    with pytest.raises(ValidationError, match="set evaluate_every_steps too"):
        TrainSection(stop_after_worse=2)


# what follows trains


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def only_run(home: Home) -> RunLayout:
    (folder,) = home.runs.iterdir()
    return RunLayout(folder)


def read_run(home: Home) -> RunState:
    return RunState.model_validate_json(only_run(home).state.read_bytes())


def same_weights(first: Path, second: Path) -> bool:
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    return one.keys() == two.keys() and all(bool((one[name] == two[name]).all()) for name in one)


@pytest.fixture
def worse_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From so many looks after a step on, what the held-out sample comes to is twice itself."""

    real = sft.heldout_loss

    def arrange(num_good: int) -> None:
        calls: list[int] = []

        def wrapped(rows: Any, losses: Any) -> HeldoutLoss:
            calls.append(1)
            found = real(rows, losses)
            return found if len(calls) <= 1 + num_good else HeldoutLoss(found.loss, 2 * found.bits_per_byte)

        monkeypatch.setattr(sft, "heldout_loss", wrapped)

    return arrange


@pytest.mark.slow
def test_training_stops_and_the_best_adapter_is_exported(
    resolved_tiny: Resolved, home: Home, tracker: Any, tmp_path: Path, worse_after: Callable[[int], None]
) -> None:
    short = Home(tmp_path / "short")
    # three of the nine steps of a schedule for nine
    with pytest.raises(KeyboardInterrupt):
        stop_at(tracker, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
        train(resolved_tiny("train.max_steps=9"), short, tracker)
    worse_after(3)
    state = train(resolved_tiny("train.max_steps=9", "train.save_every_steps=1", *STOPPING), home, type(tracker)())
    assert (state.status, state.steps_done, state.steps_total, state.adapter_step) == ("finished", 5, 9, 3)
    layout = only_run(home)
    assert sorted(path.name for path in layout.checkpoints.iterdir()) == ["step-000003", "step-000005"]
    assert read_adapter(layout.adapter).step == 3
    assert same_weights(layout.adapter, only_run(short).checkpoints / "step-000003")


def stop_at(tracker: Any, steps: int, act: Callable[[], None]) -> None:
    """Let the fake tracker act, once, when it hears of the loss of the step before."""
    keep = tracker.metrics

    def metrics(step: int, values: Any) -> None:
        keep(step, values)
        if step == steps - 1 and "train/loss" in values:
            tracker.metrics = keep
            act()

    tracker.metrics = metrics


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 4, 5])
def test_a_stopped_and_resumed_run_looks_and_ends_as_an_unbroken_one(
    resolved_tiny: Resolved, tmp_path: Path, tracker: Any, worse_after: Callable[[int], None], step: int
) -> None:
    settings = ("train.max_steps=9", *STOPPING)
    unbroken, home = Home(tmp_path / "unbroken"), Home(tmp_path / "broken")
    worse_after(3)
    whole = train(resolved_tiny(*settings), unbroken, type(tracker)())
    worse_after(3)
    stop_at(tracker, step, lambda: os.kill(os.getpid(), signal.SIGINT))
    if step < 5:
        with pytest.raises(KeyboardInterrupt):
            train(resolved_tiny(*settings), home, tracker)
        train(resolved_tiny(), home, tracker, resume=read_run(home).run_id)
    else:
        # the step of Ctrl-C is the one that ends training: nothing is left but the export
        train(resolved_tiny(*settings), home, tracker)
    state = read_run(home)
    assert (state.steps_done, state.adapter_step, state.bits_per_byte) == (5, 3, whole.bits_per_byte)
    assert same_weights(only_run(unbroken).adapter, only_run(home).adapter)
    assert [at for at, _ in tracker.values("eval/bits_per_byte")] == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_run_that_stopped_but_failed_to_export_only_exports(
    resolved_tiny: Resolved,
    home: Home,
    tracker: Any,
    monkeypatch: pytest.MonkeyPatch,
    worse_after: Callable[[int], None],
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(5, "disk broke")

    worse_after(2)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk broke"):
        patch.setattr(sft, "write_adapter", fail)
        train(resolved_tiny("train.max_steps=9", *STOPPING), home, tracker)
    later = type(tracker)()
    state = train(resolved_tiny(), home, later, resume=read_run(home).run_id)
    assert (state.status, state.steps_done, state.adapter_step) == ("finished", 4, 2)
    assert later.points == [(2, {"eval/best_bits_per_byte": pytest.approx(state.bits_per_byte)})]


@pytest.mark.slow
def test_a_damaged_best_checkpoint_gives_way_to_the_next_best(
    resolved_tiny: Resolved,
    home: Home,
    tracker: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    worse_after: Callable[[int], None],
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(5, "disk broke")

    settings = ("train.keep_checkpoints=4", "train.evaluate_every_steps=1", "train.stop_after_worse=4")
    worse_after(2)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk broke"):
        patch.setattr(sft, "write_adapter", fail)
        train(resolved_tiny(*settings), home, tracker)
    assert read_run(home).adapter_step == 2
    (only_run(home).checkpoints / "step-000002" / "adapter_model.safetensors").write_bytes(b"")
    state = train(resolved_tiny(), home, type(tracker)(), resume=read_run(home).run_id)
    assert (state.steps_done, state.adapter_step) == (4, 1)
    assert "step-000002/adapter_model.safetensors was cut short" in capsys.readouterr().err


@pytest.mark.slow
def test_looking_changes_no_weight(resolved_tiny: Resolved, tmp_path: Path, tracker: Any) -> None:
    plain, looked = Home(tmp_path / "plain"), Home(tmp_path / "looked")
    train(resolved_tiny("lora.dropout=0.1"), plain, tracker)
    other = type(tracker)()
    state = train(resolved_tiny("lora.dropout=0.1", "train.evaluate_every_steps=1"), looked, other)
    assert state.adapter_step == 4
    # a look in the loop finds what one after it does, to the last digit
    assert dict(other.values("eval/loss"))[4] == dict(tracker.values("eval/loss"))[4]
    assert same_weights(only_run(plain).adapter, only_run(looked).adapter)


@pytest.mark.slow
def test_a_dataset_that_holds_nothing_out_cannot_be_looked_at(
    resolved_tiny: Resolved, home: Home, tmp_path: Path, make_dataset: Any, make_example: Any
) -> None:
    from finetune.contracts.dataset import Role, Task

    folder = make_dataset(tmp_path / "all", [make_example(Task.PRETRAIN, [(Role.TARGET, "x = 1\n" * 9)])])
    with pytest.raises(DatasetError, match="looks at held-out rows"):
        dry_run(resolved_tiny(f"data.dataset={folder}", *STOPPING), home=home)
    assert dry_run(resolved_tiny(f"data.dataset={folder}"), home=home).num_looks == 0


@pytest.mark.slow
def test_killed_again_and_again_a_run_ends_with_the_weights_of_an_unbroken_one(
    resolved_tiny: Resolved, tmp_path: Path, tracker: Any
) -> None:
    """On a tiny base that learns too fast, the held-out sample gets worse by itself; the store is MLflow's."""
    settings = ("train.max_steps=24", "train.learning_rate=5e-2", "train.schedule=constant", "train.save_every_steps=5")
    resolved = resolved_tiny(
        *settings, "train.evaluate_every_steps=2", "train.stop_after_worse=2", "train.keep_checkpoints=1"
    )
    unbroken, home = Home(tmp_path / "unbroken"), Home(tmp_path / "broken")
    whole = train(resolved, unbroken, tracker)
    assert whole.adapter_step is not None and whole.adapter_step + 4 == whole.steps_done < whole.steps_total
    words = [str(tmp_path / "tiny.yaml")]
    for key in ("max_steps", "learning_rate", "schedule", "save_every_steps", "evaluate_every_steps"):
        words += ["--set", f"train.{key}={getattr(resolved.train, key)}"]
    words += ["--set", "train.stop_after_worse=2", "--set", "train.keep_checkpoints=1"]
    for step in (whole.adapter_step, whole.steps_done):
        kill_when(words, home, f"step-{step:06d}")
        words = ["--resume", read_run(home).run_id]
    assert subprocess.run(command(words, home), capture_output=True, timeout=100, check=False).returncode == 0
    state = read_run(home)
    assert (state.steps_done, state.adapter_step) == (whole.steps_done, whole.adapter_step)
    assert state.bits_per_byte == whole.bits_per_byte
    assert same_weights(only_run(unbroken).adapter, only_run(home).adapter)


def command(words: Sequence[str], home: Home) -> list[str]:
    start = "from finetune.cli.main import main; main()"
    return [sys.executable, "-c", start, "train", *words, "--home", str(home.root)]


def kill_when(words: Sequence[str], home: Home, checkpoint: str) -> None:
    """Train in a process of its own, and kill it as soon as the checkpoint is there."""
    with subprocess.Popen(command(words, home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 100
        while not list(home.runs.glob(f"*/checkpoints/{checkpoint}")):
            assert process.poll() is None and time.monotonic() < end, f"{checkpoint} never came"
            time.sleep(0.005)
        process.kill()
