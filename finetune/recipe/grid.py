"""--sweep: a recipe with several values for a key, or every pairing of those of several keys; all mistakes at once."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from finetune.contracts.errors import RecipeError
from finetune.contracts.yaml_file import known_keys, nearest_key, parse_scalar
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import ResolvedRecipe, resolve
from finetune.recipe.schema import Recipe

# What decides what is learned. The base and the evaluation stay as they are, or the runs could not be compared
SECTIONS = ("train", "lora", "data")
MAX_CELLS = 100
HINT = "For example: --sweep train.learning_rate=5e-5,1e-4,2e-4"


@dataclass(frozen=True)
class Axis:
    """One --sweep option: a dotted key and its values as they were typed."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One pairing: its value for each key of the sweep, and the recipe with them."""

    settings: Mapping[str, str]
    recipe: ResolvedRecipe


def resolve_grid(
    path: Path, overrides: Sequence[str], sweeps: Sequence[str], *, bases: Path | None = None
) -> tuple[Cell, ...]:
    """The recipe in path with the overrides of --set, once for each pairing of the values of the sweeps.

    bases: as for resolve.

    Raises RecipeError with every mistake of the sweeps and of the recipes that they give; what --set has wrong is
    raised as without a sweep.
    """
    axes = [_parse(text) for text in sweeps]
    problems = list(_problems(axes, overrides))
    cells: list[Cell] = []
    for settings in _pairings(axes) if not problems else _singles(axes):
        words = [f"{key}={value}" for key, value in settings.items()]
        try:
            cells.append(Cell(settings, resolve(load_recipe(path, [*overrides, *words]), bases=bases)))
        except RecipeError as error:
            if not error.problems:
                # the file cannot be read at all
                raise
            problems += [_of_sweep(problem, settings) for problem in error.problems]
    problems += _unlike(cells)
    if any(cell.recipe.train.num_processes > 1 for cell in cells):
        problems.append("--sweep: a sweep trains on one card: set train.num_processes to 1")
    if problems:
        found = tuple(dict.fromkeys(problems))
        raise RecipeError(f"The sweep has {len(found)} mistake{'s' if len(found) > 1 else ''}:", HINT, found)
    return tuple(cells)


def _parse(text: str) -> Axis:
    key, _, values = text.partition("=")
    return Axis(key, tuple(value.strip() for value in values.split(",")) if values else ())


def _problems(axes: Sequence[Axis], overrides: Sequence[str]) -> Iterator[str]:
    given = [text.partition("=")[0] for text in overrides]
    for place, axis in enumerate(axes):
        if not _is_key(axis.key):
            near = nearest_key(axis.key, Recipe)
            if near == axis.key:
                yield f"--sweep: {axis.key!r} is no key of a recipe but a section: name one of its keys"
            else:
                yield f"--sweep: {axis.key!r} is no key of a recipe" + (f"; did you mean {near}?" if near else "")
        elif axis.key.partition(".")[0] not in SECTIONS:
            yield f"--sweep: {axis.key}: only keys of {', '.join(SECTIONS)} are swept, so that runs can be compared"
        if len({str(parse_scalar(value)) for value in axis.values}) < len(axis.values):
            yield f"--sweep: {axis.key}: a value is given twice"
        elif len(axis.values) < 2 or "" in axis.values:
            yield f"--sweep: {axis.key}: give two values or more, with commas between them"
        if axis.key in given or axis.key in [other.key for other in axes[:place]]:
            yield f"--sweep: {axis.key}: the key is given twice"
    num_cells = math.prod(len(axis.values) for axis in axes)
    if num_cells > MAX_CELLS:
        yield f"--sweep: {num_cells} runs are more than {MAX_CELLS}"


def _is_key(key: str) -> bool:
    """Whether key is a value of a recipe, not a section."""
    keys = set(known_keys(Recipe))
    return key in keys and not any(other.startswith(f"{key}.") for other in keys)


def _pairings(axes: Sequence[Axis]) -> Iterator[dict[str, str]]:
    for values in product(*(axis.values for axis in axes)):
        yield {axis.key: value for axis, value in zip(axes, values, strict=True)}


def _singles(axes: Sequence[Axis]) -> Iterator[dict[str, str]]:
    """Each value alone: what a sweep that is wrong already has wrong besides."""
    for axis in axes:
        if _is_key(axis.key) and axis.key.partition(".")[0] in SECTIONS:
            yield from ({axis.key: value} for value in axis.values if value)


def _of_sweep(problem: str, settings: Mapping[str, str]) -> str:
    key = problem.removeprefix("--set: ").partition(":")[0]
    return problem.replace("--set", "--sweep", 1) if key in settings else problem


def _unlike(cells: Sequence[Cell]) -> Iterator[str]:
    """Keys by which cells would be judged by other held-out rows than the first."""
    for key in dict.fromkeys(key for cell in cells for key in cell.settings):
        # one key alone: what the others do is theirs
        samples = {_held_out(cell.recipe, key) for cell in cells if key in cell.settings}
        if len(samples) > 1:
            yield f"--sweep: {key}: the runs would be judged by different held-out rows, and could not be compared"


def _held_out(recipe: ResolvedRecipe, key: str) -> object:
    """What the value of key means for the sample of held-out rows; None for a key that means nothing for it."""
    if key.startswith("data.tasks."):
        return tuple(name for name, weight in recipe.data.tasks if weight)
    meant = {
        "data.dataset": recipe.data.dataset,
        "data.max_tokens": recipe.data.max_tokens,
        "train.evaluate_tokens": recipe.train.evaluate_tokens,
    }
    return meant.get(key)
