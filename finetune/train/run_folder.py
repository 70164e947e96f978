"""The folder of a run: its id, its recipe, and run.json, which says where it stands."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from finetune.contracts.errors import RunError
from finetune.contracts.io import read_model, write_json
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.recipe.resolve import ResolvedRecipe

HINT = "`finetune runs list` shows the runs of this home."


def new_run_id(name: str) -> str:
    """<name>-<yyyymmdd-hhmmss>-<4 hex>, in local time."""
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def find_run(home: Home, run: str) -> RunLayout:
    """The folder of a run given by id or by path. Raises RunError when there is none."""
    for folder in (home.runs / run, Path(run)):
        if run and (folder / "run.json").is_file():
            return RunLayout(folder.resolve())
    if run and RunLayout(home.runs / run).sweep.is_file():
        raise RunError(f"{run} is a sweep, which has several runs.", f"Name one of them, such as {run}-1.")
    raise RunError(f"There is no run {run} in {home.runs}.", HINT)


def read_state(layout: RunLayout) -> RunState:
    """run.json of a run. Raises RunError when it is missing or damaged."""
    return read_model(layout.state, RunState, error=RunError, hint=HINT)


def run_recipe(home: Home, run: str) -> ResolvedRecipe:
    """The resolved recipe that a run was started with. Raises RunError when it is missing or damaged."""
    return read_model(find_run(home, run).resolved_recipe, ResolvedRecipe, error=RunError, hint=HINT)


@dataclass
class RunFolder:
    """A run that this process is working on: each change of its state is on disk before the next step.

    writes: False where another process does.
    """

    layout: RunLayout
    state: RunState
    writes: bool = True

    def update(self, **changes: object) -> RunState:
        """Replace fields of the state and write it."""
        self.state = RunState.model_validate({**self.state.model_dump(), **changes})
        if self.writes:
            write_json(self.layout.state, self.state)
        return self.state
