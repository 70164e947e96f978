"""Each recipe that ships: it loads, resolves, stays sparse, and its twin trains, resumes, exports, merges, verifies."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from finetune.adapters.export import export_adapter
from finetune.adapters.merge import merge_adapter
from finetune.adapters.merge_check import verify_merged
from finetune.adapters.verify import find_adapter, verify_adapter
from finetune.contracts.run import Home
from finetune.evaluate.judge import heldout_judge
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import Origin, ResolvedRecipe, resolve
from finetune.recipe.schema import EMBEDDED_BASE
from finetune.train.dry_run import dry_run
from finetune.train.sft import train

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.yaml") if "data" not in path.parts)
MAX_LINES = 40
# What a twin changes: the sizes of the machine's work, never what is trained or how rows are made
TWIN = ("train.max_steps=2", "train.save_every_steps=1", "train.micro_batch=2", "train.accumulation=1")


def builders() -> Any:
    """The builders of the unit tests: a tiny random base, a synthetic dataset, a tracker that only listens."""
    path = ROOT / "tests" / "unit" / "finetune" / "conftest.py"
    spec = importlib.util.spec_from_file_location("unit_builders", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base and a dataset."""
    folder = tmp_path_factory.mktemp("twin")
    made = builders()
    return made.save_tiny_base(folder / "tiny"), made.save_dataset(folder / "data", made.mixed_examples(4))


def twin(recipe: Path, tiny: tuple[Path, Path], *more: str) -> ResolvedRecipe:
    base, dataset = tiny
    return resolve(load_recipe(recipe, [f"base.path={base}", f"data.dataset={dataset}", *TWIN, *more]))


def recipe_id(path: Path) -> str:
    return path.relative_to(ROOT / "recipes").as_posix()


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=recipe_id)
def test_it_is_short_and_sparse(path: Path, tiny: tuple[Path, Path]) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES
    loaded = load_recipe(path)
    assert loaded.recipe.description
    default = resolve(load_recipe(path, [f"base.path={tiny[0]}"]))
    said = {row.key for row in default.origins if row.origin is Origin.FILE}
    assert len(said) < len(default.origins) / 2


@pytest.mark.parametrize("path", RECIPES, ids=recipe_id)
def test_it_resolves_where_its_base_is(path: Path) -> None:
    base = load_recipe(path).recipe.base.path
    if base == EMBEDDED_BASE and not (ROOT / "finetune" / "embedded" / "base" / "config.json").is_file():
        pytest.skip("the embedded base is not built yet")
    if base == EMBEDDED_BASE:
        assert resolve(load_recipe(path)).base.family == path.parent.name
    else:
        assert Path(base).name


@pytest.mark.parametrize("path", RECIPES, ids=recipe_id)
def test_its_twin_is_forecast(path: Path, tiny: tuple[Path, Path], tmp_path: Path) -> None:
    found = dry_run(twin(path, tiny), home=Home(tmp_path))
    assert found.num_steps == 2
    assert found.num_trainable > 0


@contextmanager
def stopping_after_one_step(tracker: Any) -> Iterator[None]:
    """Ask the run to stop once its first step is reported; the loop stops at the end of the next."""
    import os
    import signal

    keep = tracker.metrics

    def metrics(step: int, values: dict[str, float]) -> None:
        keep(step, values)
        if "train/loss" in values and step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    tracker.metrics = metrics
    yield
    tracker.metrics = keep


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=recipe_id)
def test_its_twin_trains_resumes_exports_and_merges(path: Path, tiny: tuple[Path, Path], tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    tracker = builders().FakeTracker()
    resolved = twin(path, tiny, "train.max_steps=3")
    with stopping_after_one_step(tracker), pytest.raises(KeyboardInterrupt):
        train(resolved, home, tracker)
    (run,) = home.runs.iterdir()
    state = train(resolved, home, tracker, resume=run.name)
    assert (state.status, state.steps_done) == ("finished", 3)
    assert state.adapter_id is not None
    manifest = export_adapter(home, state.run_id, out=tmp_path / "handed-over")
    assert verify_adapter(tmp_path / "handed-over", tiny[0]) == manifest
    assert find_adapter(home, resolved.name).name == state.adapter_id
    judge = heldout_judge(
        tiny[0], tiny[1], model_type=manifest.base.model_type, section=resolved.evaluate, max_tokens=256
    )
    merged = merge_adapter(tmp_path / "handed-over", tiny[0], out=tmp_path / "merged", judge=judge)
    assert verify_merged(tmp_path / "merged")[0] == merged
