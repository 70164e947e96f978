"""finetune train --sweep: one recipe with several values, the best chosen by the held-out sample."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.contracts.run import Home, RunLayout
    from finetune.recipe.grid import Cell
    from finetune.tracking.base import Tracker
    from finetune.train.dry_run import SweepForecast
    from finetune.train.sweep_record import SweepResult


def planned(recipe: Path | None, overrides: Sequence[str], sweeps: Sequence[str]) -> "Sequence[Cell]":
    """The recipes of a sweep as it is typed. Raises RecipeError with all mistakes at once."""
    from finetune.contracts.errors import UsageError
    from finetune.recipe.grid import resolve_grid

    if recipe is None:
        raise UsageError("--sweep needs a recipe.", "`finetune recipe list` shows the recipes.")
    return resolve_grid(recipe, overrides, sweeps)


def begun(home: "Home", sweep_id: str) -> "Sequence[Cell]":
    """The recipes of a sweep that has a folder."""
    from finetune.recipe.grid import Cell
    from finetune.train.sweep_record import read_sweep

    return [Cell(run.settings, run.recipe) for run in read_sweep(home, sweep_id).runs]


def begin(cells: "Sequence[Cell]", *, home: "Home") -> str:
    """Write the folder of a new sweep; returns its id."""
    from finetune.train.sweep import begin_sweep

    return begin_sweep(cells, home)


def forecast(cells: "Sequence[Cell]", *, home: "Home") -> "SweepForecast":
    """What each run of a sweep would do; nothing is written."""
    from finetune.train.dry_run import SweepForecast, dry_run

    return SweepForecast(
        settings=tuple(dict(cell.settings) for cell in cells),
        runs=tuple(dry_run(cell.recipe, home=home) for cell in cells),
    )


def train_sweep(home: "Home", sweep_id: str, *, json: bool) -> None:
    """Train what is left of a sweep, and print what came of it; exit code 3 where a run failed or none is finished."""
    import typer

    from finetune.contracts.errors import RunError
    from finetune.terminal.output import emit, note
    from finetune.train.sweep import run_sweep
    from finetune.train.sweep_record import read_sweep

    server = read_sweep(home, sweep_id).runs[0].recipe.track.server

    def tracker(layout: "RunLayout", parent: str | None) -> "Tracker":
        from finetune.tracking.mlflow import MlflowTracker

        return MlflowTracker(home, layout, parent=parent, server=server)

    result = run_sweep(home, sweep_id, tracker)
    emit(result.model_dump(mode="json"), as_json=json, text="\n".join([result.text(), *filter(None, [result.best])]))
    problem = _problem(result)
    if problem:
        note(problem)
        raise typer.Exit(RunError.exit_code)
    if result.worse_than_base:
        note("No run is better than the base on the held-out sample. Lower train.learning_rate, or look at the data.")
    for key in result.at_the_edge():
        note(f"The best {key} lies at the edge of its values: a wider sweep may find a better one.")
    note(f"Next: finetune evaluate {result.best}")


def _problem(result: "SweepResult") -> str:
    if result.failed:
        return (
            f"Error: {len(result.failed)} of {len(result.rows)} runs failed. Try them again with: "
            f"finetune train --resume {result.sweep_id}"
        )
    if result.best is None:
        return "Error: no run has an adapter and a figure to choose by. Lower train.learning_rate."
    return ""
