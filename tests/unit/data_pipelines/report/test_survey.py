import pyarrow.parquet as pq
import pytest

from data_pipelines.report.survey import NO_MONTH, month, read_rows, survey_shards
from data_pipelines.sinks.target import read_manifest
from finetune.contracts.dataset import Task
from finetune.contracts.errors import DatasetError


@pytest.fixture
def surveyed(make_dataset):
    def survey(*arguments, **changes):
        folder = make_dataset(*arguments, **changes)
        return folder, survey_shards(folder, read_manifest(folder).shards)

    return survey


def test_figures_are_those_of_the_rows(surveyed, example_of):
    text = "größe = 1\n"
    rows = [example_of(number, Task.QA, text=text) for number in range(200)]
    _, survey = surveyed(rows)
    qa = survey.tasks["qa"]
    learned = len(text.encode())
    whole = sum(len(segment.text.encode()) for segment in rows[0].segments)
    assert (qa.learned.num_rows, qa.learned.total, qa.whole.total) == (200, 200 * learned, 200 * whole)
    assert qa.sides == {"train": 150, "novel": 25, "evolving": 25}
    assert {repo: found.num_rows for repo, found in survey.repos.items()} == {"api": 100, "shop": 100}
    assert survey.licenses == {"MIT": 200}
    assert sum(sum(sides.values()) for sides in survey.months.values()) == 200


def test_placeholders_and_strata_are_counted(surveyed, example_of):
    rows = [
        example_of(n, Task.INFILL, text="REDACTED_A_00000000 REDACTED_B_00000000"[: 19 * n + n // 2]) for n in range(3)
    ]
    _, survey = surveyed(rows)
    found = survey.tasks["infill"]
    assert (found.redacted_rows, found.placeholders) == (2, 3)
    assert found.strata == {"block": 2, "line": 1}


def test_chosen_rows_are_read_back(surveyed):
    folder, survey = surveyed()
    places = [place for task in survey.tasks for place in survey.choice.of_task(task)]
    assert {place.shard for place in places} == {"heldout-00000.parquet", "train-00000.parquet"}
    found = read_rows(folder, places)
    assert {place: row.id for place, row in found.items()} == {place: place.id for place in places}


def test_a_dataset_of_the_first_version_has_no_slices(surveyed, make_dataset, example_of):
    folder, _ = surveyed([example_of(3, Task.QA)])
    path = folder / "heldout-00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns("slice"), path)
    survey = survey_shards(folder, read_manifest(folder).shards)
    assert survey.tasks["qa"].sides == {"heldout": 1}
    (place,) = survey.choice.of_task("qa")
    assert read_rows(folder, [place])[place].slice is None


def test_a_shard_without_a_column_is_damaged(surveyed):
    folder, _ = surveyed()
    path = folder / "train-00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns("segments"), path)
    with pytest.raises(DatasetError, match=r"train-00000\.parquet is damaged"):
        survey_shards(folder, read_manifest(folder).shards)


@pytest.mark.parametrize(
    ("seconds", "text"), [(1_700_000_000, "2023-11"), (0, NO_MONTH), (-5, NO_MONTH), (9 * 10**15, NO_MONTH)]
)
def test_a_time_that_no_commit_can_have_has_no_month(seconds, text):
    assert month(seconds) == text
