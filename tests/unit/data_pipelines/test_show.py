from pathlib import Path

from data_pipelines.show import summary
from finetune.contracts.dataset import (
    CountRow,
    DatasetManifest,
    LeakageRow,
    ReasonCount,
    SourceRecord,
    Split,
    SplitRecord,
    Task,
)


def source(name, **changes):
    facts = {"repo": name, "ref": "HEAD", "commit": "c" * 40, "visibility": "internal"}
    return SourceRecord(**{**facts, "commits": 3, "files": 2, "bytes": 1500, **changes})


def manifest(*, sources=None, counts=(), **split):
    facts = {"method": "time", "cutoff_at": 1_700_000_000, "train_files": 4, "heldout_files": 2, "purged": 1}
    return DatasetManifest(
        content_digest="d" * 64,
        builder="b",
        sources=sources or (source("shop"),),
        settings="{}",
        settings_digest="s",
        split=SplitRecord(**{**facts, **split}),
        shards=(),
        counts=counts,
        dropped=(),
        redacted=(),
    )


def count(task, split, language, examples, loss_bytes=1000):
    return CountRow(task=task, split=split, language=language, examples=examples, loss_bytes=loss_bytes)


def lines(shown, start):
    return [line.split() for line in shown.splitlines() if line.strip().startswith(start)]


def test_state_note_and_weight_are_shown_only_where_they_say_something():
    plain = summary(Path("d"), manifest())
    assert "weight" not in plain
    assert "state" not in plain
    shown = summary(
        Path("d"),
        manifest(sources=(source("shop", weight=0.5), source("old", state="partial", note="a\x1b[2J" + "y" * 200))),
    )
    assert lines(shown, "shop") == [["shop", "c" * 12, "3", "2", "1.5", "kB", "0.5", "whole"]]
    assert "partial" in shown
    assert "y ..." in shown
    assert "\x1b" not in shown


def test_rows_by_task_have_both_sides_and_languages_where_there_are_several():
    shown = summary(
        Path("d"),
        manifest(
            counts=(
                count(Task.INFILL, Split.TRAIN, "go", 5),
                count(Task.INFILL, Split.TRAIN, "rust", 7),
                count(Task.INFILL, Split.HELDOUT, "go", 2, loss_bytes=9000),
                count(Task.QA, Split.TRAIN, "go", 1200),
            )
        ),
    )
    assert lines(shown, "infill") == [["infill", "all", "12", "2", "2.0", "kB"]]
    assert lines(shown, "go") == [["go", "5", "2", "1.0", "kB"]]
    assert lines(shown, "rust") == [["rust", "7", "0", "1.0", "kB"]]
    assert lines(shown, "qa") == [["qa", "go", "1,200", "0", "1.0", "kB"]]
    assert lines(shown, "all") == [["all", "1,212", "2", "3.0", "kB"]]


def test_slices_the_gate_and_the_leakage_of_other_splits():
    shown = summary(
        Path("d"),
        manifest(
            novel=30,
            evolving=10,
            leaked=(ReasonCount(stage="leakage", reason="the same function is in train", count=3),),
            leakage=(
                LeakageRow(method="random rows", train=10, heldout=40, near=10),
                LeakageRow(method="time + clusters: novel", train=10, heldout=0, near=0),
            ),
        ),
    )
    assert "30 novel rows, 10 evolving" in shown
    assert lines(shown, "random rows") == [["random", "rows", "40", "10", "25.0%"]]
    assert lines(shown, "time + clusters: novel")[0][-2:] == ["0", "0"]
    assert lines(shown, "leakage") == [["leakage", "the", "same", "function", "is", "in", "train", "3"]]


def test_a_dataset_of_an_older_version_shows_no_empty_tables():
    shown = summary(Path("d"), manifest(cutoff_at=None, method="cluster", note="the history is short"))
    assert "by cluster, because the history is short; 4 train and 2 held-out files" in shown
    for title in ("Leakage", "Taken out", "novel", "Left out", "Redacted"):
        assert title not in shown
