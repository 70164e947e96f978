"""finetune recipe: list, show, validate and describe recipes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from finetune.recipe.resolve import ResolvedRecipe

app = typer.Typer(help="Look at recipes and check them.", no_args_is_help=True, rich_markup_mode=None)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe's YAML file.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a value, such as lora.rank=32; repeatable.")
]


@app.command(
    "list", epilog="Examples: `finetune recipe list`, `finetune recipe list --folder /srv/our-recipes --json`."
)
def list_recipes(
    folder: Annotated[Path, typer.Option("--folder", help="Folder that is searched.")] = Path("recipes"),
    json: Json = False,
) -> None:
    """List the recipes in a folder, with base, method, card and tokens of the longest row, and the model families.

    The card is the one that a file's name ends in, such as 27b-qlora-24gb.yaml.
    """
    from finetune.families.registry import FAMILIES
    from finetune.recipe.catalog import list_recipes as listed
    from finetune.terminal.output import emit, table

    recipes = listed(folder)
    rows = [
        (str(row.path), row.base, row.method, row.card, f"{row.row_tokens:,}", row.recipe.description)
        for row in recipes
    ]
    shown = table(rows, header=("recipe", "base", "method", "card", "rows", "what it is for"))
    families = [(family.name, family.models, ", ".join(family.targets)) for family in FAMILIES]
    emit(
        {
            "recipes": [
                {
                    "path": str(row.path),
                    "name": row.recipe.name,
                    "description": row.recipe.description,
                    "base": row.base,
                    "method": row.method,
                    "card_gb": row.card_gb,
                    "row_tokens": row.row_tokens,
                }
                for row in recipes
            ],
            "families": [
                {"name": family.name, "model_types": family.model_types, "presets": tuple(family.targets)}
                for family in FAMILIES
            ],
        },
        as_json=json,
        text=f"{shown}\n\n{table(families, header=('family', 'bases', 'lora.targets'))}",
    )


@app.command(
    "show",
    epilog="Examples: `finetune recipe show recipes/qwen3_5/embedded-qlora.yaml`, "
    "`finetune recipe show my.yaml --set lora.rank=32 --json`.",
)
def show(
    recipe: RecipeFile,
    set_: Overrides = [],  # noqa: B006
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Print every value of a recipe with its origin: the file, --set, the family or a default."""
    from finetune.terminal.output import emit, note, table

    resolved, notes = _resolved(recipe, set_, home)
    for line in notes:
        note(line)
    rows = [(row.key, row.value, str(row.origin)) for row in resolved.origins]
    emit(resolved.model_dump(mode="json"), as_json=json, text=table(rows, header=("key", "value", "from")))


@app.command(
    "validate",
    epilog="Examples: `finetune recipe validate recipes/qwen3_5/embedded-qlora.yaml`, "
    "`finetune recipe validate my.yaml --set train.epochs=2`.",
)
def validate(
    recipe: RecipeFile,
    set_: Overrides = [],  # noqa: B006
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Check a recipe; all mistakes at once, each with its line. Exit code 3 when there are any."""
    from finetune.terminal.output import emit

    resolved, notes = _resolved(recipe, set_, home)
    emit(
        {"recipe": str(recipe), "valid": True, "digest": resolved.digest(), "notes": notes},
        as_json=json,
        text="\n".join([f"{recipe} is valid.", *notes]),
    )


@app.command(
    "schema",
    epilog="Examples: `finetune recipe schema > recipe.schema.json`, `finetune recipe schema --json | head`.",
)
def schema(json: Json = False) -> None:
    """Print the JSON Schema of a recipe, for an editor that completes and checks YAML. Both outputs are the same."""
    from finetune.contracts.io import to_json
    from finetune.recipe.schema import Recipe
    from finetune.terminal.output import emit

    document = Recipe.model_json_schema()
    emit(document, as_json=json, text=to_json(document).rstrip())


def _resolved(recipe: Path, overrides: list[str], home: Path) -> "tuple[ResolvedRecipe, tuple[str, ...]]":
    """The recipe, and what is to be said of it; bases may be named that the home holds."""
    from finetune.contracts.run import Home
    from finetune.recipe.capabilities import recipe_notes
    from finetune.recipe.load import load_recipe
    from finetune.recipe.resolve import resolve

    resolved = resolve(load_recipe(recipe, overrides), bases=Home(home).bases)
    return resolved, recipe_notes(resolved)
