from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.report.drops import MEMBERS_PER_CLUSTER, SAMPLES_PER_REASON, Dropped, divided, read_drops
from data_pipelines.sinks.parquet import DROPPED_SCHEMA
from finetune.contracts.dataset import DROPPED_NAME, ReasonCount


def save(folder: Path, rows, schema=DROPPED_SCHEMA):
    pq.write_table(pa.Table.from_pylist([row.model_dump() for row in rows], schema=schema), folder / DROPPED_NAME)
    return read_drops(folder)


def test_the_sample_does_not_depend_on_the_order_of_the_rows(tmp_path, dropped_of):
    rows = [dropped_of(number) for number in range(300)]
    first = save(tmp_path, rows).samples
    assert save(tmp_path, rows[::-1]).samples == first
    (sample,) = first.values()
    assert len(sample) == SAMPLES_PER_REASON
    assert sample != [Dropped(row.repo, row.path, row.commit, row.bytes) for row in rows[:SAMPLES_PER_REASON]]


def test_twins_are_gathered_under_the_file_that_was_kept(tmp_path, dropped_of):
    many = [dropped_of(number, "dedup", "near", twin="api:kept.py") for number in range(20)]
    drops = save(tmp_path, [*many, dropped_of(1, "dedup", "equal", twin="api:b.py"), dropped_of(2, "dedup", "near")])
    cluster = drops.clusters["api:kept.py"]
    assert (cluster.num_files, cluster.num_bytes) == (20, 20 * 100 + sum(range(20)))
    assert cluster.members == sorted(f"api:conf/{number}.yaml" for number in range(20))[:MEMBERS_PER_CLUSTER]
    assert drops.cluster_sizes == {21: 1, 2: 1}
    assert drops.twins_unnamed == 1


def test_datasets_of_the_first_version_name_no_twin(tmp_path, dropped_of):
    columns = [field for field in DROPPED_SCHEMA if field.name != "twin"]
    drops = save(tmp_path, [dropped_of(1, "dedup", "near")], pa.schema(columns))
    assert (drops.twins_unnamed, drops.clusters) == (1, {})


def test_reasons_are_divided_into_those_of_files_and_those_of_commits_and_rows(tmp_path, dropped_of):
    """The split gives files and edits the same reason; an edit has no size."""
    twin = "twin of a held-out file"
    rows = [
        dropped_of(1, "size", "smaller than 64 bytes", bytes=0),
        *(dropped_of(number, "split", twin) for number in range(3)),
        *(dropped_of(number, "split", twin, bytes=0, path="src/edited.py") for number in range(2)),
        dropped_of(1, "commit_edit", "message says too little", path="", bytes=0),
    ]
    drops = save(tmp_path, rows)
    counts = [
        ReasonCount(stage=stage, reason=reason, count=count)
        for stage, reason, count in [
            ("commit_edit", "message says too little", 1),
            ("qa", "no citation", 7),
            ("size", "smaller than 64 bytes", 1),
            ("split", twin, 5),
        ]
    ]
    files, others = divided(counts, drops)
    assert [(row.stage, row.count) for row in files] == [("size", 1), ("split", 3)]
    assert [(row.stage, row.count) for row in others] == [("commit_edit", 1), ("qa", 7), ("split", 2)]
    assert {sample.path for sample in drops.edit_samples["split", twin]} == {"src/edited.py"}
    assert len(drops.samples["split", twin]) == 3
