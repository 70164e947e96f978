"""The end of a build over parts that a real one left, with limits so small that everything is done in pieces."""

import pytest

from data_pipelines.engine import assemble as module
from data_pipelines.engine.assemble import assemble
from data_pipelines.mine.mixture import RowMeta, choose
from data_pipelines.sinks.parquet import DropLog
from data_pipelines.sinks.rows import read_written
from data_pipelines.split import gate
from data_pipelines.split.grams import read_words, write_words
from finetune.contracts.dataset import Split
from finetune.contracts.io import digest_file
from tests.unit.data_pipelines.building import build, data_folder


@pytest.fixture(scope="module")
def parts(shop, tmp_path_factory):
    """The parts of a build of two repositories, those of one repository one after the other."""
    out = tmp_path_factory.mktemp("assembled") / "set"
    other = out.parent / "other"
    other.symlink_to(shop)
    build([shop, other], out, dedup={"near": False})
    folders = [path for path in data_folder(out).glob("*/parts/*") if path.is_dir()]
    rows = {folder: read_written(folder, Split.TRAIN) for folder in folders}
    return sorted(folders, key=lambda folder: (rows[folder][0].repo if rows[folder] else "", folder.name))


def put_together(parts, folder, *, budget=None, weights=None):
    folder.mkdir()
    with DropLog(folder) as dropped:
        made, opened = assemble(folder, parts, dropped, budget=budget, weights=weights or {})
        return made, opened, dropped.counts()


def shards(made):
    return [(shard.name, shard.sha256) for shard in made.shards]


def test_novel_rows_are_checked_in_pieces_and_all_of_them(parts, tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(gate, "check_gate", lambda rows, train: checked.append([name for name, _ in rows]))
    whole, _, _ = put_together(parts, tmp_path / "whole")
    assert len(checked) == 1
    names = checked.pop()
    monkeypatch.setattr(module, "WORDS_PER_CHECK", 1)
    pieces, _, _ = put_together(parts, tmp_path / "pieces")
    assert len(checked) > 1
    assert [name for piece in checked for name in piece] == names
    assert len(names) == whole.slices["novel"]
    assert shards(pieces) == shards(whole)


def test_rows_chosen_before_are_copied_and_those_that_are_damaged_made_again(parts, tmp_path, monkeypatch):
    whole, gate_, _ = put_together(parts, tmp_path / "first")
    assert gate_.leaked
    chosen = [path for folder in parts for path in folder.glob("*-chosen-*")]
    assert {path.name.rpartition("-")[2] for path in chosen} <= {digest for _, digest in shards(whole)}
    copied = []
    monkeypatch.setattr(module, "_copy_rows", lambda source, *_, **__: copied.append(source))
    again, _, _ = put_together(parts, tmp_path / "again")
    assert chosen
    assert shards(again) == shards(whole)
    assert not copied
    monkeypatch.undo()
    for path in chosen:
        path.write_bytes(path.read_bytes()[:-1])
    made, _, _ = put_together(parts, tmp_path / "made")
    assert shards(made) == shards(whole)
    assert all(path.name.endswith(digest_file(path)) for path in chosen)


def test_a_budget_that_changes_leaves_no_rows_of_the_one_before(parts, tmp_path):
    names = []
    for budget in (1500, 1000):
        put_together(parts, tmp_path / str(budget), budget=budget)
        names.append({path.parent: path.name for folder in parts for path in folder.glob("train-chosen-*")})
        assert len(names[-1]) == sum(len(list(folder.glob("train-chosen-*"))) for folder in parts)
    assert names[0]
    assert not set(names[0].items()) & set(names[1].items())


def test_a_budget_is_kept_for_each_repository_by_itself(parts, tmp_path):
    metas = [
        RowMeta(row.id, row.task, row.repo, row.learned_bytes)
        for folder in parts
        for row in read_written(folder, Split.TRAIN)
    ]
    repos = {meta.repo for meta in metas}
    assert len(repos) == 2
    weights = {min(repos): 2.0}
    expected = choose(metas, budget=1500, source_weights=weights)
    made, _, counts = put_together(parts, tmp_path / "made", budget=1500, weights=weights)
    assert 0 < len(expected.ids) < len(metas)
    assert sum(shard.examples for shard in made.shards if shard.split is Split.TRAIN) == len(expected.ids)
    told = {(row.stage, row.reason): row.count for row in counts if "budget" in row.reason}
    assert told == {(str(task), reason): count for (task, reason), count in expected.left_out.items()}


def test_what_train_knows_is_found_whatever_is_held_at_a_time(parts, tmp_path, monkeypatch):
    whole = gate.open_gate(parts).known
    monkeypatch.setattr(gate, "read_words", lambda path: read_words(path, chunk_words=7))
    monkeypatch.setattr(gate, "write_words", lambda path, arrays: write_words(path, arrays, chunk_words=7))
    pieces = gate.open_gate(parts).known
    assert any(len(words) for words in whole.values())
    assert {kind: words.tolist() for kind, words in pieces.items()} == {
        kind: words.tolist() for kind, words in whole.items()
    }
    assert not list(parts[0].parent.glob(".asked-*"))


def test_nothing_at_all_opens_a_gate_that_knows_nothing():
    assert not any(len(words) for words in gate.open_gate([]).known.values())
