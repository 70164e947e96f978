"""The recipes of a folder, each with what one chooses by: base, method, card and length of rows."""

import re
from dataclasses import dataclass
from pathlib import Path

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import InputError
from finetune.recipe.load import load_recipe
from finetune.recipe.schema import EMBEDDED_BASE, Recipe

METHODS = {Quantization.NF4: "QLoRA, 4 bit", Quantization.NONE: "LoRA, 16 bit"}
CARD_IN_NAME = re.compile(r"-(\d+)gb$")
LEADING_NUMBER = re.compile(r"(\d+)")
# Pipelines of `finetune data build` lie there, no recipes
DATA_FOLDER = "data"


@dataclass(frozen=True)
class ListedRecipe:
    """A recipe file. card_gb is the size of card that its name ends in, 27b-qlora-24gb.yaml; None where it names none.

    base is the last part of the base's path.
    """

    path: Path
    recipe: Recipe
    base: str
    method: str
    card_gb: int | None

    @property
    def card(self) -> str:
        """card_gb in words, "" where the name of the file names none."""
        return f"{self.card_gb} GB" if self.card_gb else ""

    @property
    def row_tokens(self) -> int:
        """Tokens of the longest row."""
        return self.recipe.data.max_tokens


def list_recipes(folder: Path) -> list[ListedRecipe]:
    """The recipes under folder, in order. Raises InputError where it is none, RecipeError for a file with a mistake."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.", "Name the folder of your recipes with --folder.")
    paths = (path for path in folder.rglob("*.yaml") if DATA_FOLDER not in path.relative_to(folder).parts[:-1])
    return sorted(map(_listed, paths), key=_place)


def _place(row: ListedRecipe) -> tuple[Path, int, int, str]:
    """By family, card, size of the base, and name."""
    size = LEADING_NUMBER.match(row.path.stem)
    return row.path.parent, row.card_gb or 0, int(size[1]) if size else 0, row.path.name


def _listed(path: Path) -> ListedRecipe:
    recipe = load_recipe(path).recipe
    card = CARD_IN_NAME.search(path.stem)
    return ListedRecipe(
        path=path,
        recipe=recipe,
        base="embedded" if recipe.base.path == EMBEDDED_BASE else Path(recipe.base.path).name,
        method=METHODS[recipe.base.quantization],
        card_gb=int(card[1]) if card else None,
    )
