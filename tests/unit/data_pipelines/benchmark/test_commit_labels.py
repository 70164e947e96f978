import subprocess
from pathlib import Path

import pytest

from data_pipelines.benchmark.commit_labels import known_commits, marked
from data_pipelines.sources.git import open_repository
from finetune.contracts.dataset import DatasetManifest
from finetune.contracts.errors import DatasetError

from .layouts.conftest import commit_task

GOLDEN = Path(__file__).parents[3] / "contracts" / "golden" / "dataset_manifest_v2.json"


def manifest(repo: str, commit: str) -> DatasetManifest:
    read = DatasetManifest.model_validate_json(GOLDEN.read_text())
    source = read.sources[0].model_copy(update={"repo": repo, "commit": commit})
    return read.model_copy(update={"sources": (source,)})


@pytest.fixture
def history(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run([*git, "init", "-q"], check=True)
    ids = []
    for number in range(3):
        (folder / "shop.py").write_text(f"x = {number}\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", f"number {number}"], check=True)
        ids.append(subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout[:40])
    return folder, ids


def test_a_task_is_seen_when_the_datasets_commit_is_its_own_or_a_later_one(history):
    folder, ids = history
    with open_repository(folder, name="shop") as repository:
        known = known_commits(repository, manifest("shop", ids[1]))
    tasks = marked([commit_task(commit=one) for one in ids], known)
    assert [task.seen for task in tasks] == [True, True, False]


def test_a_dataset_of_something_else_is_no_answer(history):
    folder, ids = history
    with open_repository(folder, name="shop") as repository:
        with pytest.raises(DatasetError, match="not made of shop; its repositories: bakery"):
            known_commits(repository, manifest("bakery", ids[1]))
        with pytest.raises(DatasetError, match="which .* lacks"):
            known_commits(repository, manifest("shop", "f" * 40))
