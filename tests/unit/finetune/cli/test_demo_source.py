"""The demo reads the clone; where finetune is installed, a repository of what is installed."""

import subprocess
from pathlib import Path

import pytest

from finetune.cli import demo_source
from finetune.cli.demo_source import RECIPE, demo_recipe, demo_repository
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.run import Home


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A folder of packages, and beside it an environment with recipes, as a bundle leaves them."""
    site = tmp_path / "site-packages"
    for name in ("finetune/a.py", "finetune/__pycache__/a.pyc", "finetune/base/model.safetensors", "serving/b.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("x = 1\n")
    (site / "data_pipelines").mkdir()
    monkeypatch.setattr(demo_source, "ABOVE", site)
    monkeypatch.setattr(demo_source, "PLACES", (site, tmp_path))
    return tmp_path


def test_a_clone_is_its_own_repository_with_its_recipe(tmp_path):
    root = Path(__file__).parents[4]
    assert demo_repository(Home(tmp_path)) == root and demo_recipe() == root / RECIPE
    assert list(tmp_path.iterdir()) == []


def test_what_is_installed_becomes_a_repository_once(installed):
    home = Home(installed / "home")
    repository = demo_repository(home)
    listed = subprocess.run(["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["finetune/a.py", "serving/b.py"]
    kept = (repository / ".git" / "HEAD").stat().st_ino
    assert demo_repository(home) == repository and (repository / ".git" / "HEAD").stat().st_ino == kept


def test_the_recipe_lies_in_the_environment(installed):
    with pytest.raises(InputError, match="is missing"):
        demo_recipe()
    (installed / RECIPE).parent.mkdir(parents=True)
    (installed / RECIPE).write_text("name: x\n")
    assert demo_recipe() == installed / RECIPE


def test_without_git_the_demo_says_so(installed, monkeypatch):
    monkeypatch.setenv("PATH", str(installed))
    with pytest.raises(MachineError, match="git is not installed"):
        demo_repository(Home(installed / "home"))
