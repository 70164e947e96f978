"""The CPU twin of each recipe: the same file with sizes for a tiny base, killed, resumed, handed over, verified."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from finetune.cli.main import run
from finetune.cli.recipe_table import RECIPES, resolve_shape
from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME, ADAPTER_WEIGHTS_NAME
from finetune.contracts.io import digest_file
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.families.base import Family
from finetune.families.registry import family_for
from finetune.recipe.catalog import ListedRecipe, list_recipes

ROOT = Path(__file__).parents[2]
LISTED = list_recipes(RECIPES)
# What a twin changes: the sizes of the machine's work, never what is trained, or how rows are made and steps are taken
SIZES = ("data.max_tokens=512", "train.max_steps=2", "train.save_every_steps=1")
COMMAND = "from finetune.cli.main import main; main()"
# The process kills itself, where it stands, once the first checkpoint is there: what a poll from outside would now and
# then be too late for
KILLED_AFTER_FIRST_CHECKPOINT = f"""
import os, signal
from finetune.train.checkpoints import CheckpointStore
save = CheckpointStore.save
def save_and_die(self, *args, **kwargs):
    save(self, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
CheckpointStore.save = save_and_die
{COMMAND}
"""


def recipe_id(row: ListedRecipe) -> str:
    return row.path.relative_to(RECIPES).as_posix()


@dataclass(frozen=True)
class Twin:
    """A recipe over a tiny base. sets are its --set texts."""

    recipe: Path
    base: Path
    dataset: Path
    sets: tuple[str, ...]

    def words(self, home: Home) -> list[str]:
        """The command line that trains it."""
        sets = [word for text in self.sets for word in ("--set", text)]
        return ["train", str(self.recipe), *sets, "--home", str(home.root)]


MakeTwin = Callable[[ListedRecipe], Twin]


@pytest.fixture
def make_twin(tiny_base_of: Callable[[Family], Path], real_dataset: Path) -> MakeTwin:
    def make(row: ListedRecipe) -> Twin:
        base = tiny_base_of(family_for(resolve_shape(row).base.model_type))
        sets = (f"base.path={base}", f"data.dataset={real_dataset}", *SIZES)
        return Twin(row.path, base, dataset=real_dataset, sets=sets)

    return make


@dataclass(frozen=True)
class Homes:
    """Those of all twins, so that the tracking store of each is made once: for killed runs, and for whole ones."""

    killed: Home
    whole: Home


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    folder = tmp_path_factory.mktemp("twins")
    return Homes(killed=Home(folder / "killed"), whole=Home(folder / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("row", LISTED, ids=recipe_id)
def test_a_twin_is_killed_resumes_and_hands_over(
    row: ListedRecipe, make_twin: MakeTwin, homes: Homes, tmp_path: Path
) -> None:
    twin, home = make_twin(row), str(homes.killed.root)
    before = runs(homes.killed) | runs(homes.whole)
    with subprocess.Popen(process(KILLED_AFTER_FIRST_CHECKPOINT, twin.words(homes.killed)), cwd=ROOT) as killed:
        # meanwhile, in this process: the run that nothing happens to
        assert run(twin.words(homes.whole)) == 0
    assert killed.returncode == -signal.SIGKILL
    (folder,), (whole,) = runs(homes.killed) - before, runs(homes.whole) - before
    assert [path.name for path in RunLayout(folder).checkpoints.glob("step-*")] == ["step-000001"]
    words = ["train", "--resume", folder.name, "--home", home, "--json"]
    resumed = subprocess.run(process(COMMAND, words), cwd=ROOT, stdout=subprocess.PIPE, check=True)
    state = RunState.model_validate_json(resumed.stdout)
    assert (state.status, state.steps_done) == ("finished", 2)
    assert weights(folder) == weights(whole)
    hand_over(state, twin, home=home, folder=tmp_path)


def process(program: str, words: list[str]) -> list[str]:
    return [sys.executable, "-c", program, *words]


def runs(home: Home) -> set[Path]:
    return set(home.runs.iterdir()) if home.runs.is_dir() else set()


def weights(run_folder: Path) -> str:
    return digest_file(RunLayout(run_folder).adapter / ADAPTER_WEIGHTS_NAME)


def hand_over(state: RunState, twin: Twin, *, home: str, folder: Path) -> None:
    """All that is done with a finished adapter, by the commands that a user types."""
    assert state.adapter_id is not None
    base, adapter, merged = ("--base", str(twin.base)), str(folder / "adapter"), str(folder / "merged")
    commands = [
        ["export", state.adapter_id, "--out", adapter],
        ["verify", adapter, *base],
        ["merge", adapter, *base, "--dataset", str(twin.dataset), "--out", merged],
        ["verify", merged],
    ]
    for command in commands:
        assert run(["adapter", *command, "--home", home]) == 0, command
    manifest = json.loads((folder / "adapter" / ADAPTER_MANIFEST_NAME).read_text())
    assert manifest["adapter_id"] == state.adapter_id
