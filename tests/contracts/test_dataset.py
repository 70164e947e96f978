"""Datasets written once load for ever: a change that breaks this needs a new schema version and a migration."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.sinks.parquet import DROPPED_SCHEMA, EXAMPLE_SCHEMA
from finetune.contracts.dataset import DatasetManifest, DroppedFile, Example, Provenance, Role, Segment, Split, Task
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


def test_columns_are_the_fields_of_the_contract_in_order():
    assert EXAMPLE_SCHEMA.names == list(Example.model_fields)
    assert [field.name for field in EXAMPLE_SCHEMA.field("segments").type.value_type] == list(Segment.model_fields)
    assert [field.name for field in EXAMPLE_SCHEMA.field("provenance").type.value_type] == list(Provenance.model_fields)
    assert DROPPED_SCHEMA.names == list(DroppedFile.model_fields)


def test_the_golden_shard_has_the_first_columns_of_today():
    golden = pq.read_schema(GOLDEN / "shard_v1.parquet")
    assert list(golden) == list(plain(EXAMPLE_SCHEMA))[: len(golden)]


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema as Parquet alone keeps it, without Arrow's own copy in the file's metadata."""
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, schema, store_schema=False):
        pass
    return pq.read_schema(pa.BufferReader(stream.getvalue()))
