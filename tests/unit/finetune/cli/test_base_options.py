"""How a base is loaded travels from the recipe of a run, or from an option, to every command that loads it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.cli.main import run
from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import BaseModelError
from finetune.contracts.io import write_json
from finetune.contracts.run import Home, RunLayout
from finetune.model.base_copy import BaseCopies
from finetune.recipe.resolve import ResolvedRecipe
from finetune.train.run_folder import run_recipe
from finetune.train.sft import train


class Asked(BaseModelError):
    """Raised in place of loading."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What load_base was asked for; it then raises."""
    options: dict[str, Any] = {}

    def load_base(path: Path, **given: Any) -> None:
        options.update(given)
        raise Asked("asked", "")

    # where it is defined comes last: a module that is imported only now would take the stand-in for the original
    for module in ("finetune.train.sft", "serving.engines.transformers", "finetune.model.loading"):
        monkeypatch.setattr(f"{module}.load_base", load_base)
    return options


def place(asked: dict[str, Any]) -> tuple[bool, BaseCopies | None]:
    return asked["embedding_on_host"], asked["copies"]


def resolved_with(home: Home, **changes: object) -> ResolvedRecipe:
    """The recipe of the one run of a home, its base changed."""
    (folder,) = home.runs.iterdir()
    recipe = run_recipe(home, folder.name)
    return recipe.model_copy(update={"base": recipe.base.model_copy(update=changes)})


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("on_host", [True, False])
def test_training_and_evaluation_load_as_the_recipe_says(
    trained_home: Home, tmp_path: Path, asked: dict[str, Any], tracker: Any, cache: bool, on_host: bool
) -> None:
    recipe = resolved_with(trained_home, cache=cache, embedding_on_host=on_host)
    home = Home(tmp_path / "home")
    wanted = (on_host, BaseCopies(home.bases) if cache else None)
    with pytest.raises(Asked):
        train(recipe, home, tracker)
    assert place(asked) == wanted
    asked.clear()
    evaluated = copied_home(trained_home, home)
    layout = RunLayout(next(evaluated.runs.glob("*/adapter")).parent)
    write_json(layout.resolved_recipe, recipe)
    assert run(["evaluate", layout.root.name, "--home", str(evaluated.root)]) == 3
    assert place(asked) == wanted


def copied_home(trained: Home, home: Home) -> Home:
    shutil.rmtree(home.runs)
    shutil.copytree(trained.root, home.root, dirs_exist_ok=True)
    return home


@pytest.mark.parametrize(("words", "on_host"), [((), False), (("--embedding-on-host",), True)])
def test_verify_uses_a_copy_and_writes_none(
    trained_home: Home, tiny_base: Path, asked: dict[str, Any], words: tuple[str, ...], on_host: bool
) -> None:
    (adapter,) = trained_home.adapters.iterdir()
    arguments = ["adapter", "verify", adapter.name, "--base", str(tiny_base), "--home", str(trained_home.root)]
    assert run([*arguments, *words]) == 3
    assert place(asked) == (on_host, BaseCopies(trained_home.bases, write=False))


@pytest.mark.parametrize(
    ("words", "on_host", "cache"), [((), False, True), (("--embedding-on-host", "--no-base-cache"), True, False)]
)
def test_serving_loads_as_its_options_say(
    tiny_base: Path, tmp_path: Path, asked: dict[str, Any], words: tuple[str, ...], on_host: bool, cache: bool
) -> None:
    home = Home(tmp_path)
    assert run(["serve", "start", str(tiny_base), "--port", "0", "--home", str(tmp_path), *words]) == 3
    assert place(asked) == (on_host, BaseCopies(home.bases) if cache else None)
    assert asked["quantization"] is Quantization.NF4


def test_where_a_base_is_read_from_is_no_part_of_what_is_learned(resolved_tiny: Callable[..., ResolvedRecipe]) -> None:
    one, two = resolved_tiny("base.cache=true"), resolved_tiny("base.cache=false")
    assert one.digest() == two.digest()
    older = json.loads(one.model_dump_json())
    del older["base"]["cache"]
    assert ResolvedRecipe.model_validate(older).digest() == one.digest()
