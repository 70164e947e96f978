"""finetune train: recipe -> run folder -> adapter."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli.card import ShareCard, having_card
from finetune.guard.jail import JailMode, Needs
from finetune.terminal.jail import Jail, enter_jail
from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetune.contracts.card import HeldCards
    from finetune.contracts.run import Home, RunState
    from finetune.recipe.grid import Cell
    from finetune.recipe.resolve import ResolvedRecipe
    from finetune.train.ranks import Ranks

EXAMPLES = (
    "Examples: `finetune train recipes/qwen3_5/embedded-qlora.yaml --set data.dataset=.finetune/datasets/ours`, "
    "`finetune train --resume embedded-20260102-101500-3f2a`."
)


def train(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE]", help="A recipe's YAML file.")] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value, such as lora.rank=32; repeatable."),
    ] = [],  # noqa: B006
    sweep: Annotated[
        list[str],
        typer.Option(
            "--sweep",
            metavar="KEY=VALUE,VALUE...",
            help="Train once for each value and choose the best on held-out rows; two give every pairing.",
        ),
    ] = [],  # noqa: B006
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on with a run or a sweep, by its own recipe, from its last checkpoint."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count everything, train nothing.")] = False,
    share_card: ShareCard = False,
    jail: Jail = JailMode.AUTO,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Train an adapter by a recipe. The run's id is printed last, of a sweep that of its best run.

    A server of the same home leaves the card meanwhile, and comes back by itself.
    """
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, note

    place = Home(home.absolute())
    sweep_id = _sweep_id(place, resume)
    if sweep or sweep_id:
        given = sweep_id or resume
        cells = _sweep_cells(place, recipe, set_, sweep, resume=given)
        enter_jail(jail, _needs(cells[0].recipe))
        _train_sweep(place, cells, resume=given, dry_run=dry_run, share_card=share_card, json=json)
        return
    resolved = _resolve(place, recipe, set_, resume=resume)
    enter_jail(jail, _needs(resolved))
    if dry_run:
        from finetune.train.dry_run import dry_run as count

        forecast = count(resolved, home=place)
        emit(forecast.model_dump(mode="json"), as_json=json, text=forecast.text())
        return
    _check_files(resolved)
    does, num_cards = f"finetune train {resolved.name}", resolved.train.num_processes
    with having_card(place, does, num_cards=num_cards, share=share_card) as held:
        state = run_training(resolved, place, resume=resume, held=held)
    if not json:
        note(f"Next: finetune evaluate {state.run_id}")
    emit(state.model_dump(mode="json"), as_json=json, text=state.run_id)


def _sweep_id(home: "Home", resume: str | None) -> str | None:
    """The id of the sweep that resume names, by id or path; None where it is no sweep of this home."""
    from finetune.contracts.run import RunLayout

    name = Path(resume or "").name
    return name if name and RunLayout(home.runs / name).sweep.is_file() else None


def _needs(resolved: "ResolvedRecipe") -> Needs:
    """What a run must reach: the tracking server, and the other processes of the run."""
    from finetune.guard.endpoint import local_endpoint

    server = local_endpoint(resolved.track.server) if resolved.track.server else None
    several = "the processes of a run speak to each other over TCP" if resolved.train.num_processes > 1 else ""
    return Needs(endpoints=(server,) if server else (), loopback=several)


def _sweep_cells(
    home: "Home", recipe: Path | None, overrides: list[str], sweeps: list[str], *, resume: str | None
) -> "Sequence[Cell]":
    from finetune.cli.sweep import begun, planned

    if resume is None:
        return planned(recipe, overrides, sweeps)
    _alone(resume, recipe, [*overrides, *sweeps])
    return begun(home, resume)


def _train_sweep(
    home: "Home", cells: "Sequence[Cell]", *, resume: str | None, dry_run: bool, share_card: bool, json: bool
) -> None:
    from finetune.cli.sweep import begin, forecast, train_sweep
    from finetune.terminal.output import emit

    if dry_run:
        found = forecast(cells, home=home)
        emit(found.model_dump(mode="json"), as_json=json, text=found.text())
    else:
        sweep_id = resume or begin(cells, home=home)
        with having_card(home, f"finetune train {sweep_id}", share=share_card):
            train_sweep(home, sweep_id, json=json)


def _alone(resume: str, recipe: Path | None, others: list[str]) -> None:
    """Raise UsageError when anything is given beside --resume."""
    from finetune.contracts.errors import UsageError

    if recipe is not None or others:
        raise UsageError(
            "--resume goes on with the run's own recipe, so neither RECIPE nor --set nor --sweep may be given.",
            f"Type: finetune train --resume {resume}",
        )


def _check_files(resolved: "ResolvedRecipe") -> None:
    """Raise what the run would: no server leaves its card for a path that is mistyped."""
    from finetune.model.identity import read_model_type
    from finetune.render.dataset import open_dataset
    from finetune.train.data import dataset_folder

    open_dataset(dataset_folder(resolved))
    read_model_type(Path(resolved.base.path))


def run_training(
    resolved: "ResolvedRecipe", home: "Home", *, resume: str | None = None, held: "HeldCards | None" = None
) -> "RunState":
    """Train with the MLflow store of home as the record. held is what each process of the run must hold."""
    from finetune.train.ranks import ALONE
    from finetune.train.run_folder import new_run_id

    run_id = resume or new_run_id(resolved.name)
    work = partial(_train_as, resolved=resolved, home=home, run_id=run_id, resumed=resume is not None, held=held)
    if resolved.train.num_processes == 1:
        return work(ALONE)
    from finetune.train.launch import run_ranks

    hint = f"Often memory ran out. Go on from the last checkpoint with: finetune train --resume {run_id}"
    return run_ranks(work, resolved.train.num_processes, hint=hint)


def _train_as(
    ranks: "Ranks",
    *,
    resolved: "ResolvedRecipe",
    home: "Home",
    run_id: str,
    resumed: bool,
    held: "HeldCards | None",  # a process that has it holds the cards
) -> "RunState":
    from finetune.contracts.run import RunLayout
    from finetune.tracking.mlflow import MlflowTracker
    from finetune.tracking.silent import SilentTracker
    from finetune.train.run_folder import find_run
    from finetune.train.sft import train as train_run

    layout = find_run(home, run_id) if resumed else RunLayout(home.runs.resolve() / run_id)
    tracker = MlflowTracker(home, layout, server=resolved.track.server) if ranks.leads else SilentTracker()
    given = {"resume": run_id} if resumed else {"run_id": run_id}
    return train_run(resolved, home, tracker, ranks=ranks, **given)


def _resolve(home: "Home", recipe: Path | None, overrides: list[str], *, resume: str | None) -> "ResolvedRecipe":
    from finetune.contracts.errors import UsageError
    from finetune.recipe.load import load_recipe
    from finetune.recipe.resolve import resolve

    if resume is not None:
        _alone(resume, recipe, overrides)
        from finetune.train.run_folder import run_recipe

        return run_recipe(home, resume)
    if recipe is None:
        raise UsageError("Name a recipe, or a run with --resume.", "`finetune recipe list` shows the recipes.")
    return resolve(load_recipe(recipe, overrides))
