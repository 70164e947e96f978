"""Datasets written once load for ever: a change that breaks this needs a new schema version and a migration."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.sinks.parquet import DROPPED_SCHEMA, EXAMPLE_SCHEMA
from finetune.contracts.dataset import (
    INFILL_TASKS,
    DatasetManifest,
    DroppedFile,
    Example,
    Provenance,
    Role,
    Segment,
    Slice,
    Split,
    Task,
)
from finetune.contracts.io import digest_text

GOLDEN = Path(__file__).parent / "golden"


def test_the_golden_manifest_of_version_1_loads():
    manifest = DatasetManifest.model_validate_json((GOLDEN / "dataset_manifest_v1.json").read_text())
    assert manifest.schema_version == 1
    assert manifest.content_digest == digest_text("\n".join(shard.sha256 for shard in manifest.shards))
    assert manifest.num_examples(Split.TRAIN) == 28
    assert manifest.num_examples(task=Task.COMMIT_EDIT) == 2


def test_the_golden_shard_loads_as_examples():
    rows = [Example.model_validate(row) for row in pq.read_table(GOLDEN / "shard_v1.parquet").to_pylist()]
    learned = {row.task: {segment.role for segment in row.segments if segment.loss} for row in rows}
    assert learned == {
        Task.INFILL: {Role.TARGET},
        Task.DOCSTRING: {Role.ANSWER},
        Task.COMMIT_EDIT: {Role.ANSWER},
        Task.PRETRAIN: {Role.TARGET},
    }


def test_the_golden_manifest_of_version_2_loads():
    manifest = DatasetManifest.model_validate_json((GOLDEN / "dataset_manifest_v2.json").read_text())
    assert manifest.schema_version == 2
    assert manifest.content_digest == digest_text("\n".join(shard.sha256 for shard in manifest.shards))
    assert (manifest.split.method, manifest.split.novel, manifest.split.evolving) == ("time", 9, 4)
    assert manifest.num_examples(Split.HELDOUT) == 13
    assert sum(row.count for row in manifest.split.leaked) > 0
    assert {row.method for row in manifest.split.leakage} >= {"random rows", "time + clusters: novel"}
    assert (manifest.sources[0].state, manifest.sources[0].weight) == ("whole", 1.0)
    assert manifest.num_examples() == pq.read_metadata(GOLDEN / "shard_v2.parquet").num_rows


def test_the_golden_shard_of_version_2_loads_as_examples():
    """Rows of both splits, of every task that needs neither reviews nor a teacher."""
    rows = [Example.model_validate(row) for row in pq.read_table(GOLDEN / "shard_v2.parquet").to_pylist()]
    assert {row.task for row in rows} == set(Task) - {Task.REVIEW_FIX, Task.QA}
    for row in rows:
        learned = {segment.role for segment in row.segments if segment.loss}
        is_text = row.task in INFILL_TASKS or row.task is Task.PRETRAIN
        assert learned == ({Role.TARGET} if is_text else {Role.ANSWER})
    slices = {split: {row.slice for row in rows if row.split is split} for split in Split}
    assert slices == {Split.TRAIN: {None}, Split.HELDOUT: {Slice.NOVEL, Slice.EVOLVING}}
    assert {len(row.segments) for row in rows if row.task is Task.PRETRAIN and row.split is Split.TRAIN} == {14}
    assert any(row.redactions for row in rows)


def test_columns_are_the_fields_of_the_contract_in_order():
    assert EXAMPLE_SCHEMA.names == list(Example.model_fields)
    assert [field.name for field in EXAMPLE_SCHEMA.field("segments").type.value_type] == list(Segment.model_fields)
    assert [field.name for field in EXAMPLE_SCHEMA.field("provenance").type.value_type] == list(Provenance.model_fields)
    assert DROPPED_SCHEMA.names == list(DroppedFile.model_fields)


@pytest.mark.parametrize("version", [1, 2])
def test_the_golden_shard_has_the_first_columns_of_today(version):
    golden = pq.read_schema(GOLDEN / f"shard_v{version}.parquet")
    assert list(golden) == list(plain(EXAMPLE_SCHEMA))[: len(golden)]


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema as Parquet alone keeps it, without Arrow's own copy in the file's metadata."""
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, schema, store_schema=False):
        pass
    return pq.read_schema(pa.BufferReader(stream.getvalue()))
