"""A thousand recipes, pipelines, gates and rules made wrong: each a message, nothing written."""

import tempfile

import pytest
import typer.main

import finetune.cli.main
from bench.fuzz_files import WriteWatch, fuzz, fuzz_special
from bench.fuzz_folders import fuzz as fuzz_folders
from finetune.contracts.run import Home
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import resolve
from finetune.train.sft import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working directory, also of what is written for a while."""
    made = tmp_path_factory.mktemp("fuzzed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.setattr(tempfile, "tempdir", str(made))
        # a typer builds all commands for each line anew, which takes longer than to read a file
        patch.setattr(finetune.cli.main, "app", typer.main.get_command(finetune.cli.main.app))
        yield made


def test_a_thousand_files_made_wrong_end_with_a_message(folder):
    with WriteWatch(folder) as watch:
        found = fuzz(folder, number=1000, seed=7)
    assert found.problems == []
    assert watch.found == set()
    # the good and the wrong alike: what all refuse shows nothing
    for kind in ("recipe", "pipeline", "gate", "trust", "identity"):
        assert found.codes[kind, 3] > 20
    assert found.codes["recipe", 0] > 5 and all(found.codes[kind, 0] for kind in ("gate", "trust", "identity"))


def test_what_is_no_file_is_refused(folder):
    with WriteWatch(folder) as watch:
        found = fuzz_special(folder)
    assert (found.problems, watch.found) == ([], set())
    assert {code for _, code in found.codes} == {3}


def test_damaged_datasets_runs_and_adapters_end_with_a_message(folder, unit, tiny_base, tmp_path):
    dataset = unit.save_dataset(tmp_path / "rows", unit.mixed_examples(6))
    home = Home(tmp_path / "home")
    train(resolve(load_recipe(unit.write_tiny_recipe(tmp_path, tiny_base, dataset))), home, unit.FakeTracker())
    with WriteWatch(folder) as watch:
        found = fuzz_folders(dataset, home.root, scratch=folder, number=200, seed=7)
    assert (found.problems, watch.found) == ([], set())
    assert all(found.codes[kind, code] for kind in ("dataset", "home") for code in (0, 3))
