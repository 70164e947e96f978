"""A recipe tells its user what its family does with a reservation, and nothing where there is none."""

import json
from pathlib import Path

import pytest

from finetune.families.tokens import Experimental, Supported, Unsupported
from finetune.recipe.capabilities import capability_text, recipe_notes
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import resolve


def notes(folder: Path, model_type: str, *overrides: str) -> list[str]:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    path = folder / "r.yaml"
    path.write_text(f"name: x\nbase: {{path: {folder}}}\n")
    return list(recipe_notes(resolve(load_recipe(path, overrides))))


@pytest.mark.parametrize(
    ("capability", "text"),
    [(Supported(), "yes"), (Experimental("slow"), "experimental: slow"), (Unsupported("never"), "no: never")],
)
def test_a_capability_is_told_in_words(capability, text):
    assert capability_text(capability) == text


def test_infill_is_told_by_the_forms_of_tokens(tmp_path):
    (line,) = notes(tmp_path, "llama")
    assert line.startswith("infill on llama: Llama 3: no: ")
    assert "DeepSeek-Coder: experimental" in line


def test_a_recipe_without_infill_needs_no_word_about_it(tmp_path):
    assert notes(tmp_path, "llama", "data.tasks.infill=0", "data.tasks.repo_infill=0") == []


def test_experts_and_kinds_out_of_reach_are_told(tmp_path):
    lines = notes(tmp_path, "qwen3_moe")
    assert [line.split(":")[0] for line in lines] == [
        "infill on qwen3_moe",
        "experts of qwen3_moe",
        "mlp layers of qwen3_moe carry no adapter",
    ]
