"""recipes/README.md, made from the recipes and their plans. `python -m finetune.cli.recipe_table` rewrites it."""

from pathlib import Path

from finetune.cli.plan import workload
from finetune.model.shape import read_shape
from finetune.plan.changes import peak
from finetune.plan.machine import GIB, smallest_sold_as
from finetune.recipe.catalog import ListedRecipe, list_recipes
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import ResolvedRecipe, resolve
from finetune.recipe.schema import EMBEDDED_BASE

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
TARGET = RECIPES / "README.md"
# A config.json of the true shape for each base that a recipe names; no weights
SHAPES = ROOT / "tests" / "assets" / "plan"
HEAD = """# Recipes

Made from the files here by `python -m finetune.cli.recipe_table`. Correct `base.path`, then:

```
finetune plan recipes/qwen3_6/27b-qlora-24gb.yaml --card 4090
finetune train recipes/qwen3_6/27b-qlora-24gb.yaml --set data.dataset=.finetune/datasets/ours
```

[docs/training.md](../docs/training.md#choosing-a-recipe) says which to choose. Rows are tokens of the longest row. The
peak is GiB of the fullest phase, **calculated** by `finetune plan` from the base's true shape, not measured; "of" is
what a run may take of the smallest card that is sold with so much memory, 1 GiB being left to the desktop and to gaps.
Hybrids (Qwen3.5, Qwen3.6) are counted with flash-linear-attention; `plan` notes what they take without it.

"""
COLUMNS = ("recipe", "base", "method", "card", "rows", "adapter", "peak, calculated", "of", "what it is for")


def recipes_page() -> str:
    """The whole page: a table with a line for each recipe."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(_cells, list_recipes(RECIPES))]
    return HEAD + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def resolve_shape(row: ListedRecipe) -> ResolvedRecipe:
    """The recipe over the folder that has its base's true config.json."""
    if row.recipe.base.path == EMBEDDED_BASE:
        return resolve(load_recipe(row.path))
    return resolve(load_recipe(row.path, [f"base.path={shape_folder(row.base)}"]))


def shape_folder(base: str) -> Path:
    """The folder of a base's true config.json: Qwen3.6-27B is qwen3_6-27b."""
    return SHAPES / base.lower().replace(".", "_")


def _cells(row: ListedRecipe) -> tuple[str, ...]:
    resolved = resolve_shape(row)
    lora = resolved.lora
    shape = read_shape(Path(resolved.base.path), targets=lora.targets, rank=lora.rank)
    size = peak(shape, workload(resolved)) / GIB
    usable = f"{smallest_sold_as(row.card_gb).usable_bytes / GIB:.1f}" if row.card_gb else ""
    name = row.path.relative_to(RECIPES).as_posix()
    return (
        f"[{row.path.stem}]({name})",
        row.base,
        row.method,
        row.card or "none: CPU",
        f"{row.row_tokens:,}",
        f"rank {lora.rank}, {shape.adapter_parameters(lora.targets, lora.rank) / 1e6:,.0f} M",
        f"{size:.1f}" if row.card_gb else "",
        usable,
        row.recipe.description,
    )


if __name__ == "__main__":
    from finetune.contracts.io import write_text

    write_text(TARGET, recipes_page())
