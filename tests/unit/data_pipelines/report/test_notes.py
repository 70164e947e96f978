import pytest

from data_pipelines.report.notes import Level, notes
from data_pipelines.report.survey import survey_shards
from data_pipelines.sinks.target import read_manifest
from finetune.contracts.dataset import LeakageRow, ReasonCount, Task

TAKEN = "4 rows that did were taken out of novel."


@pytest.fixture
def notes_of(make_dataset):
    def found(*arguments, **changes):
        folder = make_dataset(*arguments, **changes)
        manifest = read_manifest(folder)
        return {note.text: note.level for note in notes(manifest, survey_shards(folder, manifest.shards))}

    return found


def test_a_dataset_that_is_as_it_should_be(notes_of):
    assert notes_of() == {
        "All 2 sources were read whole.": Level.GOOD,
        "40 rows (25 %) held out, by commit time.": Level.GOOD,
        f"Leakage gate: 0 of 20 novel rows show what train teaches. {TAKEN}": Level.GOOD,
        "12 secrets, addresses and names replaced, by 1 rule.": Level.GOOD,
        "1 text left out because the scan for secrets failed.": Level.LOOK,
    }


def test_sources_that_were_not_read_whole_are_named(notes_of, source_of):
    kept = source_of("api")
    lost = [source_of(f"old-{number}", state="skipped", note="no commit") for number in range(5)]
    found = notes_of(sources=(kept, *lost, source_of("shop", state="partial")))
    assert found["5 of 7 sources were skipped: old-0, old-1, old-2 and 2 more."] is Level.LOOK
    assert found["1 of 7 sources was read in part: shop."] is Level.LOOK


def test_one_repository_that_outweighs_the_others(notes_of, example_of):
    rows = [example_of(number, text="x" * (900 if number % 2 else 10)) for number in range(20)]
    assert notes_of(rows)["99 % of the learned text comes from one repository, shop."] is Level.LOOK


def test_held_out_rows_without_slices_have_no_gate_behind_them(notes_of, example_of, split_of):
    found = notes_of(split=split_of(novel=0, evolving=0, leaked=()))
    assert [level for text, level in found.items() if "no leakage gate" in text] == [Level.LOOK]


def test_a_gate_that_leaves_nothing_is_bad(notes_of, split_of):
    found = notes_of(split=split_of(novel=0))
    assert found[f"Leakage gate: no novel row is left. {TAKEN}"] is Level.BAD


def test_a_novel_item_with_a_twin_in_train_is_bad(notes_of, split_of):
    rows = [("time + clusters: novel", 2), ("time + clusters: evolving", 9), ("random rows", 7)]
    leakage = tuple(LeakageRow(method=method, train=50, heldout=10, near=near) for method, near in rows)
    found = notes_of(split=split_of(novel=20, evolving=20, leakage=leakage))
    assert [text for text, level in found.items() if level is Level.BAD] == [
        "2 of 10 novel items have a twin in train."
    ]


def test_nothing_held_out_is_bad_and_comes_first(notes_of, example_of):
    first, *_ = notes_of([example_of(0)]).items()
    assert first[1] is Level.BAD
    assert "No row is held out" in first[0]


def test_a_split_by_cluster_says_why(notes_of, split_of):
    found = notes_of(split=split_of(method="cluster", cutoff_at=None, note="the history has 3 commits"))
    text = "40 rows (25 %) held out, by drawing whole clusters, not by time: the history has 3 commits."
    assert found[text] is Level.LOOK


def test_secrets_that_only_the_last_scan_found(notes_of):
    dropped = (ReasonCount(stage="infill", reason="the last scan found a secret: aws-key", count=3),)
    found = notes_of(dropped=dropped, redacted=())
    assert found["The last scan, over finished rows, stopped 3 rows with a secret."] is Level.LOOK
    assert [level for text, level in found.items() if text.startswith("Nothing was redacted")] == [Level.LOOK]


def test_a_task_that_is_never_measured(notes_of, example_of):
    rows = [*(example_of(number) for number in range(8)), example_of(0, Task.QA)]
    assert notes_of(rows)["Tasks without a heldout row, so learned but never measured: qa."] is Level.LOOK
