"""Opening a dataset: a cut, altered or missing file is refused by name; rows come in a fixed order."""

import json
import shutil
from pathlib import Path

import pytest

from finetune.contracts.dataset import Split, Task
from finetune.contracts.errors import DatasetError
from finetune.render.dataset import open_dataset


@pytest.fixture
def copy(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "data"))


def test_rows_come_back_in_order(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    rows = list(dataset.examples(Split.TRAIN))
    assert len(rows) == dataset.manifest.num_examples(Split.TRAIN) == 24
    assert rows == list(dataset.examples(Split.TRAIN))
    assert all(row.split is Split.TRAIN for row in rows)
    assert {row.task for row in dataset.examples(Split.HELDOUT, [Task.INFILL])} == {Task.INFILL}


def test_a_missing_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="finetune data build"):
        open_dataset(tmp_path / "none")


def test_a_cut_shard_is_named(copy: Path) -> None:
    shard = copy / "train-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(DatasetError, match=r"train-00000\.parquet does not have the digest"):
        open_dataset(copy)


def test_a_missing_shard_is_named(copy: Path) -> None:
    (copy / "heldout-00000.parquet").unlink()
    with pytest.raises(DatasetError, match=r"heldout-00000\.parquet is missing"):
        open_dataset(copy)


def test_a_manifest_that_names_other_shards_is_refused(copy: Path) -> None:
    path = copy / "manifest.json"
    document = json.loads(path.read_text())
    document["shards"] = document["shards"][:1]
    path.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match="do not give its content digest"):
        open_dataset(copy)


def test_a_broken_manifest_is_named(copy: Path) -> None:
    (copy / "manifest.json").write_text("{")
    with pytest.raises(DatasetError, match=r"manifest\.json is damaged"):
        open_dataset(copy)
