"""Two processes train what one would: same curve, same adapter; killed, they go on; interrupted, they save."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file

from finetune.contracts.errors import MachineError, RunError
from finetune.contracts.io import digest_files
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.recipe.resolve import ResolvedRecipe
from finetune.tracking.silent import SilentTracker
from finetune.train.launch import run_ranks
from finetune.train.ranks import ALONE, Ranks
from finetune.train.run_folder import read_state
from finetune.train.sft import train

pytestmark = pytest.mark.slow
Resolved = Callable[..., ResolvedRecipe]
# 24 rows, two a pass: 12 passes of which a step takes 4, so that the last of 4 steps is one of a second epoch; packed,
# passes do not divide evenly, and the last step has a silent pass
UNPACKED = ("train.packing=false", "train.accumulation=4", "train.epochs=1.25", "train.max_steps=null")
PACKED = ("train.micro_batch=1", "train.accumulation=2", "train.epochs=3", "train.max_steps=null")
# The passes are the same, only the sums of their float32 gradients are taken in another order, which changes the last
# of 24 bits; Adam then divides by the root of their squares, so an entry near zero may lose a few digits of its step.
# A wrong share, or a wrong divisor, moves weights by whole steps of the learning rate, 5e-3.
WEIGHT_TOLERANCE = 1e-4
LOSS_TOLERANCE = 1e-4


class CurveTracker(SilentTracker):
    """Keeps the curve in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if "train/loss" in values:
            with self.path.open("a") as stream:
                stream.write(json.dumps([step, values["train/loss"], values["train/gradient_norm"]]) + "\n")


class SignalTracker(SilentTracker):
    """Sends a signal, to its own process or to the one that started it, when the figures of a step arrive."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.step and "train/loss" in values:
            os.kill(os.getpid() if self.number is signal.SIGKILL else os.getppid(), self.number)


@dataclass(frozen=True)
class Work:
    """One run; the follower's tracker may be one that sends a signal."""

    resolved: ResolvedRecipe
    home: Home
    resume: bool
    follower: SilentTracker

    def __call__(self, ranks: Ranks) -> RunState:
        tracker = CurveTracker(self.home.root / "curve.jsonl") if ranks.leads else self.follower
        given = {"resume": "r"} if self.resume else {"run_id": "r"}
        return train(self.resolved, self.home, tracker, ranks=ranks, **given)


def run(
    resolved: ResolvedRecipe, home: Home, *, resume: bool = False, follower: SilentTracker | None = None
) -> RunState:
    home.root.mkdir(exist_ok=True)
    work = Work(resolved, home, resume, follower or SilentTracker())
    size = resolved.train.num_processes
    return work(ALONE) if size == 1 else run_ranks(work, size, hint="Go on with --resume.")


def curve(home: Home) -> list[list[float]]:
    return [json.loads(line) for line in (home.root / "curve.jsonl").read_text().splitlines()]


def layout(home: Home) -> RunLayout:
    return RunLayout(home.runs / "r")


def largest_difference(first: Home, second: Home) -> float:
    one, two = (load_file(layout(home).adapter / "adapter_model.safetensors") for home in (first, second))
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.parametrize("settings", [UNPACKED, PACKED], ids=["apart", "packed"])
def test_two_processes_train_what_one_does(resolved_tiny: Resolved, tmp_path: Path, settings: tuple[str, ...]) -> None:
    one, two = Home(tmp_path / "one"), Home(tmp_path / "two")
    alone = run(resolved_tiny(*settings), one)
    state = run(resolved_tiny(*settings, "train.num_processes=2"), two)
    assert (state.status, state.packed, state.steps_done) == ("finished", alone.packed, alone.steps_total)
    assert alone.packed is (settings is PACKED)
    for mine, theirs in zip(curve(one), curve(two), strict=True):
        assert theirs == pytest.approx(mine, rel=LOSS_TOLERANCE)
    assert largest_difference(one, two) < WEIGHT_TOLERANCE


def test_interrupted_and_killed_it_ends_with_the_weights_of_an_unbroken_run(
    resolved_tiny: Resolved, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    resolved = resolved_tiny("train.num_processes=2", "train.max_steps=5", "lora.dropout=0.1")
    unbroken, home = Home(tmp_path / "unbroken"), Home(tmp_path / "broken")
    run(resolved, unbroken)
    with pytest.raises(KeyboardInterrupt):
        run(resolved, home, follower=SignalTracker(2, signal.SIGTERM))
    state = read_state(layout(home))
    assert state.status == "interrupted"
    assert state.steps_done in (2, 3)
    (saved,) = [path for path in layout(home).checkpoints.iterdir() if path.name == f"step-{state.steps_done:06d}"]
    before = digest_files(sorted(saved.iterdir()))
    with pytest.raises(MachineError, match=r"Process 2 of 2 was killed by SIGKILL, so all were stopped"):
        run(resolved, home, resume=True, follower=SignalTracker(state.steps_done + 1, signal.SIGKILL))
    assert digest_files(sorted(saved.iterdir())) == before
    assert run(resolved, home, resume=True).status == "finished"
    assert largest_difference(unbroken, home) == 0.0
    assert capfd.readouterr().err.count("Stopping after this step") == 1


def test_fewer_processes_than_the_recipe_says_are_refused(resolved_tiny: Resolved, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(RunError, match="asks for 2 processes, and 1 would train"):
        train(resolved_tiny("train.num_processes=2"), home, SilentTracker())
    assert not home.runs.exists()
