"""Read a recipe file and its --set overrides into a Recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.contracts.errors import RecipeError, UsageError
from finetune.contracts.yaml_file import UNSOUND, is_sound, model_from, nearest_key, parse_scalar, read_yaml
from finetune.recipe.schema import Recipe

HINT = "See `finetune recipe show RECIPE` for every key, or `finetune recipe validate RECIPE` after a change."


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, and which dotted keys the file and the flags gave."""

    recipe: Recipe
    path: Path
    file_keys: frozenset[str]
    flag_keys: frozenset[str]


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read path; overrides are "key=value" texts from --set and win over the file.

    Raises RecipeError with all mistakes at once, UsageError for an override that is no key=value or an unknown key.
    """
    flags = dict(_parse_override(text) for text in overrides)
    document = read_yaml(path, error=RecipeError, hint=HINT)
    recipe = model_from(document, path, Recipe, hint=HINT, overrides=flags)
    given = frozenset(".".join(str(part) for part in location) for location in document.lines)
    return LoadedRecipe(recipe=recipe, path=path, file_keys=given, flag_keys=frozenset(flags))


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {text!r} is not of the form key=value.", "For example: --set lora.rank=32")
    near = nearest_key(key, Recipe)
    if near != key:
        raise UsageError(
            f"--set {text!r}: a recipe has no key {key!r}.",
            f"Did you mean {near}?" if near else "See `finetune recipe show`.",
        )
    parsed = parse_scalar(value)
    if not is_sound(parsed):
        raise UsageError(f"--set {text!r}: {UNSOUND}.", "Give the value without them.")
    return key, parsed
