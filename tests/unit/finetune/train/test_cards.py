"""Two processes train what one would, over whole bases and over parts of one; killed, they go on; stopped, they save.

Starting processes is what takes time here, so several runs share a start, one after the other.
"""

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from safetensors.torch import load_file

from finetune.adapters.verify import verify_adapter
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
ROWS = {"apart": UNPACKED, "packed": PACKED}
TWO = ("train.num_processes=2",)
WHOLE, PARTS = (), ("base.quantization=none", "train.sharding=fsdp2")
BASES = {"whole": WHOLE, "parts": PARTS}
BROKEN = (*TWO, "train.max_steps=5", "lora.dropout=0.1")
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
    resume: bool = False
    follower: SilentTracker = field(default_factory=SilentTracker)

    def __call__(self, ranks: Ranks) -> RunState:
        self.home.root.mkdir(exist_ok=True)
        tracker = CurveTracker(self.home.root / "curve.jsonl") if ranks.leads else self.follower
        given = {"resume": "r"} if self.resume else {"run_id": "r"}
        return train(self.resolved, self.home, tracker, ranks=ranks, **given)


@dataclass(frozen=True)
class InTurn:
    """Several runs in the same processes."""

    works: tuple[Work, ...]

    def __call__(self, ranks: Ranks) -> None:
        for work in self.works:
            work(ranks)


def run_two(*works: Work) -> None:
    run_ranks(InTurn(works), 2, hint="Go on with --resume.")


def curve(home: Home) -> list[list[float]]:
    return [json.loads(line) for line in (home.root / "curve.jsonl").read_text().splitlines()]


def layout(home: Home) -> RunLayout:
    return RunLayout(home.runs / "r")


def largest_difference(first: Home, second: Home) -> float:
    one, two = (load_file(layout(home).adapter / "adapter_model.safetensors") for home in (first, second))
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def steps_saved(home: Home) -> set[str]:
    return {path.name for path in layout(home).checkpoints.iterdir()}


@pytest.fixture(scope="module")
def finished(resolved_shared: Resolved, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Home]:
    """Read-only: homes of runs of two processes, by how the base is held and rows are learned, or "unbroken"."""
    root = tmp_path_factory.mktemp("finished")
    settings = {
        f"{base}-{name}": (*BASES[base], *rows) for base in BASES for name, rows in {**ROWS, "unbroken": BROKEN}.items()
    }
    run_two(*(Work(resolved_shared(*TWO, *given), Home(root / name)) for name, given in settings.items()))
    return lambda name: Home(root / name)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("base", BASES)
def test_two_processes_train_what_one_does(
    resolved_shared: Resolved, tmp_path: Path, finished: Callable[[str], Home], base: str, rows: str
) -> None:
    one, two = Home(tmp_path / "one"), finished(f"{base}-{rows}")
    # a base in parts is never on one process, and computes what a 16-bit one does
    settings = (*ROWS[rows], *(value for value in BASES[base] if "sharding" not in value))
    alone = Work(resolved_shared(*settings), one)(ALONE)
    state = read_state(layout(two))
    assert (state.status, state.packed, state.steps_done) == ("finished", alone.packed, alone.steps_total)
    assert alone.packed is (rows == "packed")
    assert state.bits_per_byte == pytest.approx(alone.bits_per_byte, rel=LOSS_TOLERANCE)
    for mine, theirs in zip(curve(one), curve(two), strict=True):
        assert theirs == pytest.approx(mine, rel=LOSS_TOLERANCE)
    assert largest_difference(one, two) < WEIGHT_TOLERANCE


def test_what_a_base_in_parts_trained_is_verified_over_a_whole_one(
    finished: Callable[[str], Home], tiny_base: Path
) -> None:
    home = finished("parts-packed")
    manifest = verify_adapter(layout(home).adapter, tiny_base)
    assert manifest.quantization == "none"
    assert [path.name for path in home.adapters.iterdir()] == [manifest.adapter_id]


def test_interrupted_and_killed_it_ends_with_the_weights_of_an_unbroken_run(
    resolved_shared: Resolved,
    tmp_path: Path,
    finished: Callable[[str], Home],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # what the survivor says is not looked at
    monkeypatch.setattr("finetune.train.launch.GRACE_SECONDS", 0.5)
    homes = {base: Home(tmp_path / base) for base in BASES}
    recipes = {base: resolved_shared(*BROKEN, *BASES[base]) for base in BASES}
    home, resolved = homes["whole"], recipes["whole"]
    with pytest.raises(KeyboardInterrupt):
        run_two(Work(resolved, home, follower=SignalTracker(2, signal.SIGTERM)))
    state = read_state(layout(home))
    assert state.status == "interrupted"
    assert state.steps_done in (2, 3)
    saved = layout(home).checkpoints / f"step-{state.steps_done:06d}"
    assert saved.name in steps_saved(home)
    before = digest_files(sorted(saved.iterdir()))
    killed = r"Process 2 of 2 was killed by SIGKILL, so all were stopped"
    with pytest.raises(MachineError, match=killed):
        run_two(Work(resolved, home, resume=True, follower=SignalTracker(state.steps_done + 1, signal.SIGKILL)))
    assert digest_files(sorted(saved.iterdir())) == before
    with pytest.raises(MachineError, match=killed):
        run_two(Work(recipes["parts"], homes["parts"], follower=SignalTracker(3, signal.SIGKILL)))
    assert steps_saved(homes["parts"]) == {"step-000002"}
    run_two(*(Work(recipes[base], homes[base], resume=True) for base in BASES))
    for base in BASES:
        assert read_state(layout(homes[base])).status == "finished"
        assert largest_difference(finished(f"{base}-unbroken"), homes[base]) == 0.0
    assert capfd.readouterr().err.count("Stopping after this step") == 1


def test_fewer_processes_than_the_recipe_says_are_refused(resolved_shared: Resolved, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(RunError, match="asks for 2 processes, and 1 would train"):
        train(resolved_shared(*TWO), home, SilentTracker())
    assert not home.runs.exists()
