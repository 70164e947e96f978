"""A home whose store is made once and copied, since making MLflow's tables takes seconds."""

import shutil
from pathlib import Path

import pytest

from finetune.contracts.run import Home, RunLayout
from finetune.tracking.base import RunCard
from finetune.tracking.mlflow import MlflowTracker


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from finetune.tracking.home_store import open_client

    home = Home(tmp_path_factory.mktemp("store"))
    open_client(home)
    return home.tracking_database


@pytest.fixture
def home(tmp_path: Path, empty_store: Path) -> Home:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    shutil.copyfile(empty_store, home.tracking_database)
    return home


@pytest.fixture
def layout(home: Home) -> RunLayout:
    return RunLayout(home.runs / "shop-1")


@pytest.fixture
def card() -> RunCard:
    return RunCard(
        run_id="shop-1",
        experiment="finetune",
        recipe_name="shop",
        parameters={"lora.rank": "16", "data.dataset": "d" * 9000},
        tags={"recipe_digest": "abc"},
    )


@pytest.fixture
def tracker(home: Home, layout: RunLayout) -> MlflowTracker:
    return MlflowTracker(home, layout)
