"""The checker of rows finds what does not stand in the repository."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.checkers.rows import main
from tests.unit.data_pipelines.building import build
from tests.unit.data_pipelines.conftest import save_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A repository and a dataset of it."""
    folder = tmp_path_factory.mktemp("checked")
    path = save_shop(folder / "shop").path
    build([path], folder / "dataset")
    return path, folder / "dataset"


def test_rows_of_a_build_stand_in_their_repository(shop, capsys):
    path, dataset = shop
    assert main([str(dataset), f"shop={path}"]) == 0
    shown = capsys.readouterr().out
    assert "0 fail" in shown
    for task in ("commit_edit", "infill", "pretrain", "search_replace"):
        assert f"{task} python " in shown


@pytest.mark.parametrize(
    ("task", "role"),
    [("infill", "target"), ("pretrain", "target"), ("commit_edit", "context"), ("search_replace", "context")],
)
def test_a_text_that_was_altered_is_found(shop, tmp_path, capsys, task, role):
    path, dataset = shop
    for shard in dataset.glob("train-*.parquet"):
        rows = pq.read_table(shard)
        altered = [alter(row, role) if row["task"] == task else row for row in rows.to_pylist()]
        pq.write_table(pa.Table.from_pylist(altered, schema=rows.schema), tmp_path / shard.name)
    assert main([str(tmp_path), f"shop={path}"]) == 1
    assert f" {task} " in capsys.readouterr().out


def alter(row, role):
    """The row with the first segment of a role in other words."""
    segments = [dict(part) for part in row["segments"]]
    next(part for part in segments if part["role"] == role)["text"] += "# nobody wrote this\n"
    return {**row, "segments": segments}
