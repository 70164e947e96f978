"""A dataset's records say what training on it knew of a body."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.benchmark.labels import Body, Label, label_bodies, normal_lines
from data_pipelines.sinks.parquet import DROPPED_SCHEMA, EXAMPLE_SCHEMA
from finetune.contracts.dataset import DROPPED_NAME, DatasetManifest, Shard, Slice, SourceRecord, Split, SplitRecord
from finetune.contracts.errors import DatasetError
from finetune.contracts.io import write_json

BODY = Body("f", "shop", "src/shop.py", "aaaa", 10, 12, "    first = 1\n    second = 2\n    return first + second")
SEEN, EVOLVING, NOVEL = Label(True, None), Label(False, Slice.EVOLVING), Label(False, Slice.NOVEL)


def row(text: str = "other", *, split: str = "train", lines=(1, 3), part=None, **place: str):
    found = {"repo": "shop", "path": "src/other.py", "blob": "bbbb", "commit": "c", "author": "", "license": None}
    segments = [{"role": "target", "text": text, "path": found["path"], "loss": True}]
    return {
        "id": "i",
        "task": "pretrain",
        "language": "python",
        "stratum": "",
        "segments": segments,
        "provenance": [{**found, **place, "first_line": lines[0], "last_line": lines[1], "committed_at": 1}],
        "split": split,
        "cluster": "",
        "redactions": 0,
        "visibility": "",
        "slice": part,
    }


@pytest.fixture
def label(tmp_path: Path):
    def label(*rows, body: Body = BODY, twin: str = "") -> Label:
        shards = []
        for split in Split:
            name = f"{split}-00000.parquet"
            table = pa.Table.from_pylist([one for one in rows if one["split"] == split], schema=EXAMPLE_SCHEMA)
            pq.write_table(table, tmp_path / name)
            shards.append(Shard(name=name, split=split, examples=len(table), sha256=""))
        gone = {"repo": body.repo, "commit": "", "path": body.path, "stage": "", "reason": "", "bytes": 1, "twin": twin}
        pq.write_table(pa.Table.from_pylist([gone], schema=DROPPED_SCHEMA), tmp_path / DROPPED_NAME)
        source = SourceRecord(repo="shop", ref="", commit="c", visibility="", commits=1, files=1, bytes=1)
        manifest = DatasetManifest(
            content_digest="digest",
            builder="",
            sources=(source,),
            settings="{}",
            settings_digest="",
            split=SplitRecord(method="cluster", cutoff_at=None, train_files=1, heldout_files=1, purged=0),
            shards=tuple(shards),
            counts=(),
            dropped=(),
            redacted=(),
        )
        write_json(tmp_path / "manifest.json", manifest)
        labels = label_bodies(tmp_path, [body])
        assert (labels.dataset_digest, labels.repos) == ("digest", ("shop",))
        return labels.of["f"]

    return label


HERE = {"path": "src/shop.py", "blob": "aaaa"}


def test_lines_of_the_body_in_the_same_content_were_seen(label):
    assert label(row(**HERE, lines=(12, 30))) == SEEN
    assert label(row(**HERE, lines=(12, 30), repo="other")) == NOVEL


def test_the_same_lines_anywhere_were_seen_but_for_layout_and_comments(label):
    text = "def g():\n# a comment\n\n  first = 1\n  second = 2  \n  return first + second\n\nmore()"
    assert label(row(text)) == SEEN
    assert label(row(text.replace("second = 2", "second = 3"))) == NOVEL
    assert label(row(text, split="heldout", part="novel")) == NOVEL


def test_a_gap_in_the_middle_of_the_body_was_seen(label):
    parts = [
        ("prefix", "def g():\n    first = 1\n    sec"),
        ("suffix", " 2\n    return first + second\n"),
        ("target", "ond ="),
    ]
    segments = [{"role": role, "text": text, "path": "x", "loss": role == "target"} for role, text in parts]
    assert label({**row(), "task": "infill", "segments": segments}) == SEEN


def test_other_lines_or_another_content_of_the_file_make_it_evolving(label):
    assert label(row(**HERE, lines=(13, 30))) == EVOLVING
    assert label(row(path="src/shop.py", lines=(1, 99))) == EVOLVING
    assert label(row(), twin="shop:src/other.py") == EVOLVING
    assert label(row(), twin="shop:src/third.py") == NOVEL


def test_what_is_held_out_keeps_the_slice_of_its_rows(label):
    held = row(**HERE, split="heldout", lines=(10, 12), part="novel")
    assert label(held) == NOVEL
    assert label(held, {**held, "slice": "evolving"}) == EVOLVING
    assert label({**held, "slice": "evolving"}, body=replace(BODY, first_line=13, last_line=15)) == NOVEL


def test_a_folder_without_a_dataset_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no dataset"):
        label_bodies(tmp_path / "gone", [BODY])


def test_lines_are_compared_without_layout():
    assert normal_lines("  a = 1\n\n\t# no\n  b\n") == ["a = 1", "b"]
