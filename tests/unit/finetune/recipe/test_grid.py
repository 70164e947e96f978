"""--sweep: every pairing, and every mistake at once, before anything is trained."""

from pathlib import Path

import pytest

from finetune.contracts.errors import RecipeError, UsageError
from finetune.recipe.grid import resolve_grid

RECIPE = Path(__file__).parents[4] / "recipes" / "qwen3_5" / "embedded-qlora.yaml"


def mistakes(*sweeps: str, overrides: tuple[str, ...] = ()) -> tuple[str, ...]:
    with pytest.raises(RecipeError, match="The sweep has") as caught:
        resolve_grid(RECIPE, overrides, sweeps)
    return caught.value.problems


def test_each_value_gives_a_recipe() -> None:
    cells = resolve_grid(RECIPE, ["lora.alpha=16"], ["train.learning_rate=5e-5, 1e-4,2e-4"])
    assert [cell.settings for cell in cells] == [{"train.learning_rate": text} for text in ("5e-5", "1e-4", "2e-4")]
    assert [cell.recipe.train.learning_rate for cell in cells] == [5e-5, 1e-4, 2e-4]
    assert {cell.recipe.lora.alpha for cell in cells} == {16}


def test_two_give_every_pairing() -> None:
    cells = resolve_grid(RECIPE, (), ["lora.rank=8,16", "lora.targets=attention+mlp,attention"])
    assert [tuple(cell.settings.values()) for cell in cells] == [
        ("8", "attention+mlp"),
        ("8", "attention"),
        ("16", "attention+mlp"),
        ("16", "attention"),
    ]
    assert len({cell.recipe.digest() for cell in cells}) == 4


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes("train.learning_rat=1,2", "lora.rank=0,8,-1", "train.warmup_share=0.1", "lora.alpha=high,8")
    assert len(found) == 5
    assert found[0] == "--sweep: 'train.learning_rat' is no key of a recipe; did you mean train.learning_rate?"
    assert found[1] == "--sweep: train.warmup_share: give two values or more, with commas between them"
    assert "--sweep: lora.rank: Input should be greater than or equal to 1 (given: 0)" in found
    assert "--sweep: lora.rank: Input should be greater than or equal to 1 (given: -1)" in found
    assert any(problem.startswith("--sweep: lora.alpha: ") and "'high'" in problem for problem in found)


@pytest.mark.parametrize(
    ("sweeps", "overrides", "told"),
    [
        (("lora=8,16",), (), "'lora' is no key of a recipe"),
        (("lora.rank",), (), "give two values or more"),
        (("lora.rank=8,,16",), (), "give two values or more"),
        (("train.learning_rate=1e-4,0.0001",), (), "a value is given twice"),
        (("lora.rank=8,16", "lora.rank=4,5"), (), "the key is given twice"),
        (("lora.rank=8,16",), ("lora.rank=4",), "the key is given twice"),
        (("base.path=embedded,/models/x",), (), "only keys of train, lora, data are swept"),
        (("data.max_tokens=256,512",), (), "judged by different held-out rows"),
        (("data.tasks.infill=0,1",), (), "judged by different held-out rows"),
        (("train.evaluate_tokens=8192,16384",), (), "judged by different held-out rows"),
        (("lora.targets=attention,experts9",), (), "no preset of the family"),
        (tuple(f"{key}={','.join(map(str, range(1, 12)))}" for key in ("lora.rank", "train.seed")), (), "121 runs"),
        (("train.token_budget=1000,2000",), (), "both say when training ends"),
    ],
)
def test_what_cannot_be_swept_is_refused(sweeps: tuple[str, ...], overrides: tuple[str, ...], told: str) -> None:
    assert any(told in problem for problem in mistakes(*sweeps, overrides=overrides))


def test_weights_of_tasks_are_swept_where_the_same_rows_are_held_out() -> None:
    assert len(resolve_grid(RECIPE, (), ["data.tasks.infill=1,2"])) == 2


def test_a_file_that_cannot_be_read_is_told_as_without_a_sweep(tmp_path) -> None:
    with pytest.raises(RecipeError, match="does not exist"):
        resolve_grid(tmp_path / "nowhere.yaml", (), ["train.seed=1,2"])


def test_a_wrong_set_is_told_as_without_a_sweep() -> None:
    with pytest.raises(UsageError, match="no key 'lora.rnak'"):
        resolve_grid(RECIPE, ["lora.rnak=3"], ["train.seed=1,2"])


def test_a_sweep_over_several_cards_is_refused() -> None:
    (problem,) = mistakes("lora.rank=8,16", overrides=("train.num_processes=2",))
    assert "a sweep trains on one card" in problem
