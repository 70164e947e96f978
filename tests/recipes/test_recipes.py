"""Each recipe that ships: it loads, resolves over its base's true shape, is sparse, and fits the card of its name."""

import json
from pathlib import Path

import pytest

from finetune.cli.main import run
from finetune.cli.recipe_table import RECIPES, SHAPES, recipes_page, resolve_shape, shape_folder
from finetune.families.registry import family_for
from finetune.families.tokens import Unsupported
from finetune.model.shape import read_shape
from finetune.plan.machine import smallest_sold_as
from finetune.recipe.catalog import ListedRecipe, list_recipes
from finetune.recipe.resolve import Origin
from finetune.recipe.schema import EMBEDDED_BASE

ROOT = Path(__file__).parents[2]
LISTED = list_recipes(RECIPES)
ON_A_CARD = [row for row in LISTED if row.card_gb]
MAX_LINES = 40
# A step learns from so many tokens; of mixtures, whose rows are not packed, the mean row is about this long
STEP_TOKENS = (16_000, 64_000)
MEAN_ROW = 2_000
# Numbers of the text model, in billions: from the makers' model cards (Coder), or from counts of the published weights
# without vision and multi-token prediction
PUBLISHED = {
    "qwen3_6-27b": 26.9,
    "qwen3_5-4b": 4.2,
    "qwen3_5-9b": 8.95,
    "qwen3_5-35b-a3b": 35.0,
    "qwen3_5-397b-a17b": 397.0,
    "qwen2_5-coder-7b": 7.61,
    "qwen2_5-coder-14b": 14.7,
}


def recipe_id(row: ListedRecipe) -> str:
    return row.path.relative_to(RECIPES).as_posix()


def test_there_are_recipes_for_each_size_of_card() -> None:
    assert {row.card_gb for row in LISTED} == {None, 24, 48, 80}


def test_names_differ() -> None:
    assert len({row.recipe.name for row in LISTED}) == len(LISTED)


@pytest.mark.parametrize("row", LISTED, ids=recipe_id)
def test_it_is_short_and_sparse(row: ListedRecipe) -> None:
    assert len(row.path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    assert row.recipe.description
    origins = resolve_shape(row).origins
    said = {found.key for found in origins if found.origin is Origin.FILE}
    assert len(said) < len(origins) / 2


@pytest.mark.parametrize("row", LISTED, ids=recipe_id)
def test_what_departs_from_a_default_differs_from_it_and_says_why(row: ListedRecipe) -> None:
    default = type(row.recipe)(name="x", base={"path": "x"})  # type: ignore[arg-type]
    for section in ("base", "data", "lora", "train", "evaluate"):
        given, usual = getattr(row.recipe, section), getattr(default, section)
        for key in given.model_fields_set - {"path"}:
            assert getattr(given, key) != getattr(usual, key), f"{section}.{key} is the default"
    lines = row.path.read_text(encoding="utf-8").splitlines()
    silent = [line for line in lines if line.startswith("  ") and "#" not in line and "path:" not in line]
    assert silent == [] or row.recipe.base.path == EMBEDDED_BASE


@pytest.mark.parametrize("row", LISTED, ids=recipe_id)
def test_it_resolves_to_the_family_of_its_folder(row: ListedRecipe) -> None:
    resolved = resolve_shape(row)
    folders = {"qwen3_6": "qwen3_5", "qwen2_5_coder": "qwen2"}
    assert resolved.base.family == folders.get(row.path.parent.name, row.path.parent.name)
    method = "lora" if resolved.base.quantization == "none" else "qlora"
    assert f"-{method}" in row.path.stem


@pytest.mark.parametrize("row", ON_A_CARD, ids=recipe_id)
def test_plan_says_that_it_fits_the_smallest_card_of_its_name(
    row: ListedRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    assert row.card_gb is not None
    card = smallest_sold_as(row.card_gb).name
    base = f"base.path={shape_folder(row.base) / 'config.json'}"
    capsys.readouterr()
    assert run(["plan", str(row.path), "--set", base, "--card", card, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["recipe"], document["fits"]) == (row.recipe.name, True)
    assert all(phase["fits"] for phase in document["phases"])
    assert document["peak_gib"] < document["card"]["usable_gib"]


@pytest.mark.parametrize("row", ON_A_CARD, ids=recipe_id)
def test_a_step_learns_from_16_to_64_thousand_tokens(row: ListedRecipe) -> None:
    resolved = resolve_shape(row)
    packs = not isinstance(family_for(resolved.base.model_type).packing, Unsupported)
    tokens = row.row_tokens if packs else MEAN_ROW
    step = tokens * resolved.train.micro_batch * resolved.train.accumulation
    assert STEP_TOKENS[0] <= step <= STEP_TOKENS[1]


@pytest.mark.parametrize("folder", sorted(PUBLISHED))
def test_a_shape_has_as_many_parameters_as_the_published_base(folder: str) -> None:
    shape = read_shape(SHAPES / folder, targets=("q_proj",), rank=1)
    assert shape.parameters / 1e9 == pytest.approx(PUBLISHED[folder], rel=0.015)


def test_each_shape_is_held_against_a_published_figure() -> None:
    assert {path.name for path in SHAPES.iterdir() if path.is_dir()} == set(PUBLISHED)


@pytest.mark.parametrize(
    ("folder", "name"), [("qwen3_5-9b", "Qwen3_5TextConfig"), ("qwen3_5-35b-a3b", "Qwen3_5MoeTextConfig")]
)
def test_a_shape_is_that_of_the_librarys_own_defaults(folder: str, name: str) -> None:
    import transformers

    default = getattr(transformers, name)()
    text = json.loads((SHAPES / folder / "config.json").read_text())["text_config"]
    other = {"max_position_embeddings", "mtp_num_hidden_layers", "full_attention_interval", "rope_parameters"}
    assert {key: getattr(default, key) for key in text.keys() - other} == {
        key: text[key] for key in text.keys() - other
    }


def test_the_table_of_recipes_is_up_to_date() -> None:
    assert (RECIPES / "README.md").read_text() == recipes_page(), "run: .venv/bin/python -m finetune.cli.recipe_table"
