"""The list of recipes: what one chooses by, in an order that helps."""

from pathlib import Path

import pytest

from finetune.contracts.errors import InputError, RecipeError
from finetune.recipe.catalog import list_recipes


def write(folder: Path, name: str, *, base: str = "/models/Big-7B", more: str = "") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name: x\nbase:\n  path: {base}\n{more}")


def test_a_recipe_is_listed_with_what_one_chooses_by(tmp_path: Path) -> None:
    write(tmp_path, "7b-lora-80gb.yaml", more="  quantization: none\ndata:\n  max_tokens: 4096\n")
    (row,) = list_recipes(tmp_path)
    assert (row.base, row.method, row.card, row.card_gb, row.row_tokens) == (
        "Big-7B", "LoRA, 16 bit", "80 GB", 80, 4096
    )  # fmt: skip


def test_a_file_that_names_no_card_has_none(tmp_path: Path) -> None:
    write(tmp_path, "billing.yaml", base="embedded")
    (row,) = list_recipes(tmp_path)
    assert (row.base, row.method, row.card, row.card_gb) == ("embedded", "QLoRA, 4 bit", "", None)


def test_families_stay_together_small_cards_and_small_bases_first(tmp_path: Path) -> None:
    for name in ("b/14b-qlora-24gb.yaml", "b/7b-qlora-24gb.yaml", "b/4b-lora-80gb.yaml", "a/9b-qlora-48gb.yaml"):
        write(tmp_path, name)
    assert [row.path.relative_to(tmp_path).as_posix() for row in list_recipes(tmp_path)] == [
        "a/9b-qlora-48gb.yaml", "b/7b-qlora-24gb.yaml", "b/14b-qlora-24gb.yaml", "b/4b-lora-80gb.yaml"
    ]  # fmt: skip


def test_pipelines_of_data_are_no_recipes(tmp_path: Path) -> None:
    write(tmp_path, "data/company.yaml", more="sources: []\n")
    assert list_recipes(tmp_path) == []


def test_a_mistake_and_a_folder_that_is_none_are_told(tmp_path: Path) -> None:
    write(tmp_path, "bad.yaml", more="  quantisation: nf4\n")
    with pytest.raises(RecipeError, match=r"bad\.yaml"):
        list_recipes(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        list_recipes(tmp_path / "nowhere")
