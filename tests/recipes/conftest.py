"""What the tests of recipes share: true shapes, tiny bases of each family, and a dataset built from real files."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from finetune.cli import recipe_table
from finetune.families.base import Family
from finetune.families.registry import FAMILIES
from finetune.model import shape
from finetune.model.shape import read_shape

# A shape depends on base and adapter alone; the plan of a recipe and its line in the table ask for the same
CACHED = cache(read_shape)
ROOT = Path(__file__).parents[2]
# Packages of this project, learned from as a user's repository is; small, and without torch
REAL_FILES = ("finetune/contracts", "finetune/plan")


def unit_builders() -> ModuleType:
    """The builders of the unit tests."""
    path = ROOT / "tests" / "unit" / "finetune" / "conftest.py"
    spec = importlib.util.spec_from_file_location("unit_builders", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _read_shapes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape, "read_shape", CACHED)
    monkeypatch.setattr(recipe_table, "read_shape", CACHED)


@pytest.fixture(scope="session")
def tiny_base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    """Read-only: the folder of a tiny random base of a family, with a byte tokenizer that has the family's tokens."""
    made = unit_builders()

    @cache
    def make(name: str) -> Path:
        (family,) = (family for family in FAMILIES if family.name == name)
        folder = tmp_path_factory.mktemp("families") / name
        made.save_tiny_weights(folder, json.loads((made.CONFIGS / f"{name}.json").read_text()))
        template = made.plain_template(family)
        made.save_byte_tokenizer(folder, family.tokens.names(), template=template, end=family.document_end)
        return folder

    return lambda family: make(family.name)


@pytest.fixture(scope="session")
def real_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: what `finetune data build` makes of a git repository with two small packages of this project."""
    folder = tmp_path_factory.mktemp("real")
    repository = folder / "project"
    for name in REAL_FILES:
        for path in sorted((ROOT / name).glob("*.py")):
            copy = repository / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    who = ("-c", "user.name=A", "-c", "user.email=a@a.invalid")
    for words in (["init", "-q", "-b", "main"], ["add", "."], [*who, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    command = ["data", "build", "--repo", str(repository), "--out", str(folder / "dataset"), "--home", str(folder)]
    subprocess.run([sys.executable, "-c", "from finetune.cli.main import main; main()", *command], cwd=ROOT, check=True)
    return folder / "dataset"
