import json

import pytest

from data_pipelines.engine.work import work_of
from data_pipelines.lineage.lineage import places_of
from data_pipelines.lineage.lineage_text import trained_text
from data_pipelines.lineage.seen import datasets_of, trained_on
from finetune.contracts.chain import Chain
from finetune.contracts.io import digest_text, write_json
from finetune.contracts.run import Home, RunLayout, RunState
from tests.unit.data_pipelines.building import build, data_folder
from tests.unit.manifests import build_manifest

NOW, BEFORE, OTHER = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def save_run(home, name, *, digest, dataset):
    state = RunState(
        run_id=name,
        recipe_name="ours",
        base_path="/models/base",
        dataset_path=str(dataset),
        dataset_digest=digest,
        tracking_run_id=None,
        status="finished",
        steps_done=2,
        steps_total=2,
    )
    write_json(RunLayout(home.runs / name).state, state)


def save_adapter(folder, name, *, digest, run):
    digests = {"weights": digest_text(name), "dataset": digest}
    write_json(folder / "manifest.json", build_manifest(name, run_id=run, digests=digests))


def names(found):
    return {item.name: item.certainty for item in found}


def test_runs_and_adapters_are_found_by_digest_and_by_folder(home, tmp_path):
    ours = tmp_path / "ours"
    save_run(home, "run-1", digest=NOW, dataset=tmp_path / "moved")
    save_run(home, "run-2", digest=OTHER, dataset=ours)
    save_run(home, "run-3", digest=OTHER, dataset=tmp_path / "elsewhere")
    save_adapter(home.adapters / "one-1", "one-1", digest=NOW, run="run-1")
    save_adapter(home.adapters / "two-2", "two-2", digest=OTHER, run="run-2")
    save_adapter(home.adapters / "three-3", "three-3", digest=OTHER, run="run-3")
    save_adapter(home.adapters / "four-4", "four-4", digest=BEFORE, run="run-gone")
    found = trained_on(home, {NOW}, folders=[ours], earlier=(BEFORE,))
    assert names(found) == {
        "run-1": "saw it",
        "run-2": "may have seen it",
        "one-1": "saw it",
        "two-2": "may have seen it",
        "four-4": "may have seen it",
    }
    assert [item.kind for item in found] == ["run", "run", "adapter", "adapter", "adapter"]


def test_a_state_that_is_known_to_be_clean_is_not_accused(home, tmp_path):
    save_run(home, "run-1", digest=BEFORE, dataset=tmp_path)
    save_run(home, "run-2", digest=NOW, dataset=tmp_path)
    assert names(trained_on(home, {BEFORE}, folders=[tmp_path], clean=(NOW,))) == {"run-1": "saw it"}


def test_an_adapter_that_only_lies_in_its_run_counts_once(home, tmp_path):
    save_run(home, "run-1", digest=NOW, dataset=tmp_path)
    save_adapter(RunLayout(home.runs / "run-1").adapter, "one-1", digest=NOW, run="run-1")
    assert names(trained_on(home, {NOW}, folders=[])) == {"run-1": "saw it", "one-1": "saw it"}
    save_adapter(home.adapters / "one-1", "one-1", digest=NOW, run="run-1")
    found = [item for item in trained_on(home, {NOW}, folders=[]) if item.kind == "adapter"]
    assert [item.folder for item in found] == [home.adapters / "one-1"]


def test_what_cannot_be_read_is_named(home, tmp_path, capsys):
    save_run(home, "run-1", digest=NOW, dataset=tmp_path)
    (home.runs / "run-2").mkdir()
    (home.runs / "run-2" / "run.json").write_text("{")
    (home.adapters / "odd").mkdir(parents=True)
    (home.adapters / "odd" / "manifest.json").write_text(json.dumps({"rank": 0}))
    assert names(trained_on(home, {NOW}, folders=[])) == {"run-1": "saw it"}
    shown = capsys.readouterr().err
    assert str(home.runs / "run-2" / "run.json") in shown
    assert str(home.adapters / "odd" / "manifest.json") in shown


def test_an_empty_home_knows_nothing(home):
    assert trained_on(home, {NOW}, folders=[]) == []
    assert datasets_of(home) == []


def test_datasets_are_known_wherever_they_were_built_or_learned_from(shop, home, tmp_path):
    inside, outside, learned = home.datasets / "group" / "in", tmp_path / "out", tmp_path / "learned"
    build([shop], outside, data=home.data)
    for folder in (inside, learned):
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_bytes((outside / "manifest.json").read_bytes())
    save_run(home, "run-1", digest=NOW, dataset=learned)
    save_run(home, "run-2", digest=NOW, dataset=tmp_path / "deleted")
    assert datasets_of(home) == sorted(folder.resolve() for folder in (inside, outside, learned))


def test_a_work_folder_is_private_and_knows_its_dataset(shop, tmp_path):
    out = tmp_path / "out"
    build([shop], out)
    work = work_of(data_folder(out), out)
    assert work.folder.stat().st_mode & 0o077 == 0
    assert work.place == out.resolve()


def place(path):
    return {
        "repo": "r",
        "commit": "c",
        "path": path,
        "blob": "b",
        "first_line": 1,
        "last_line": 2,
        "author": "x",
        "committed_at": 0,
        "license": None,
    }


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([("b.py", False), ("a.py", True)], [True, False]),
        ([("a.py", True), ("b.py", True)], [True, True]),
        # the answer of a commit names no file: it is made from all of them
        ([("a.py", False), (None, True)], [True, True]),
    ],
)
def test_what_is_learned_names_its_file(segments, expected):
    row = {
        "segments": [{"path": path, "loss": loss} for path, loss in segments],
        "provenance": [place("a.py"), place("b.py")],
    }
    assert [found.is_target for found in places_of(row)] == expected


def test_an_adapter_that_is_live_is_named_with_its_aliases(home, tmp_path):
    save_run(home, "run-1", digest=NOW, dataset=tmp_path)
    save_adapter(home.adapters / "one-1", "one-1", digest=NOW, run="run-1")
    with Chain(home.releases, notice=lambda text: None).open() as record:
        record.append("promoted", {"model": "ours", "alias": "champion", "adapter_id": "one-1"})
    run, adapter = trained_on(home, {NOW}, folders=[])
    assert [str(place) for place in adapter.live] == ["ours@champion"]
    assert run.live == ()
    assert "ours@champion" in trained_text([run, adapter])
