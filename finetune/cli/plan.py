"""finetune plan: what a recipe needs on a card, before anything is loaded."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from finetune.plan.machine import Card
    from finetune.plan.memory import Workload
    from finetune.recipe.resolve import ResolvedRecipe
    from finetune.train.dry_run import DryRun

EXAMPLES = (
    "Examples: `finetune plan recipes/qwen3_6/27b-qlora-24gb.yaml --card 4090`, "
    "`finetune plan my.yaml --set base.path=/models/Qwen3.6-27B/config.json --card 24GiB --json`."
)


def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe's YAML file.")],
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value, such as lora.rank=32; repeatable."),
    ] = [],  # noqa: B006
    card: Annotated[
        str | None,
        typer.Option(
            metavar="CARD", help="A card such as 4090, or a size such as 24GiB. None: the GPU here, or 24GiB."
        ),
    ] = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Itemise the memory and time of a recipe on one card; of the base only config.json is read.

    Exit code 4 when it does not fit, with the changes that make it fit.
    """
    from finetune.contracts.errors import MachineError
    from finetune.contracts.run import Home
    from finetune.model.shape import read_shape
    from finetune.plan.report import make_plan
    from finetune.plan.text import plan_text
    from finetune.recipe.load import load_recipe
    from finetune.recipe.resolve import resolve
    from finetune.terminal.output import emit, note

    resolved = resolve(load_recipe(recipe, set_), bases=Home(home).bases)
    place = _card(card)
    rows, notes = _rows(resolved, home)
    shape = read_shape(Path(resolved.base.path), targets=resolved.lora.targets, rank=resolved.lora.rank)
    made = make_plan(
        shape,
        workload(resolved),
        place,
        recipe=resolved.name,
        num_tokens=rows.num_tokens if rows else resolved.train.token_budget,
        mean_row=rows.num_tokens / rows.num_rows if rows else None,
        notes=notes,
    )
    emit(made.model_dump(mode="json"), as_json=json, text=plan_text(made, str(recipe)))
    if not made.fits:
        note(f"Error: {made.recipe} needs {made.peak_gib:.2f} GiB and {place.name} has {made.card.usable_gib:.2f}.")
        raise typer.Exit(MachineError.exit_code)


def workload(resolved: "ResolvedRecipe") -> "Workload":
    """What a recipe asks of a card."""
    from finetune.plan.workload import recipe_workload

    return recipe_workload(
        resolved.base, resolved.lora, data=resolved.data, train=resolved.train, evaluate=resolved.evaluate
    )


def _card(text: str | None) -> "Card":
    from finetune.plan.machine import parse_card, recognise

    if text is not None:
        return parse_card(text)
    import torch

    if not torch.cuda.is_available():
        return parse_card("24GiB")
    found = torch.cuda.get_device_properties(0)
    return recognise(found.name, found.total_memory // 2**20)


def _rows(resolved: "ResolvedRecipe", home: Path) -> "tuple[DryRun | None, list[str]]":
    """The recipe's rows, rendered, where it names a dataset and the base has a tokenizer; else why the time is not."""
    from finetune.contracts.run import Home
    from finetune.model.identity import TOKENIZER_NAME
    from finetune.train.dry_run import dry_run

    if resolved.data.dataset is None:
        if resolved.train.token_budget is not None:
            return None, ["No dataset is given: rows count as of the longest, the run as of train.token_budget."]
        return None, ["No dataset is given: add --set data.dataset=DIR for the hours of a whole run."]
    if not (Path(resolved.base.path) / TOKENIZER_NAME).is_file():
        return None, ["The base has no tokenizer here, so the rows of the dataset were not counted."]
    return dry_run(resolved, home=Home(home.absolute())), []
