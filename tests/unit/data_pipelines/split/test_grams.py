import os

import numpy as np
import pytest

from data_pipelines.split.grams import RUN_TOKENS, first_file_with, known, runs, runs_of, write_words
from finetune.contracts.errors import MachineError


def words(*values):
    return np.array(values, np.uint64)


def random_words(seed, count, limit):
    return np.random.default_rng(seed).integers(0, limit, count, np.uint64)


def test_runs_are_those_of_ten_tokens_whatever_the_white_space():
    text = b" ".join(b"t%d" % place for place in range(14))
    assert RUN_TOKENS == 10
    assert len(runs(text)) == 5
    assert np.array_equal(runs(text), runs(text.replace(b" ", b"\n\t ")))
    inside = runs(b" ".join(b"t%d" % place for place in range(2, 12)))
    assert len(inside) == 1
    assert np.isin(inside, runs(text)).all()
    assert not np.isin(runs(b" ".join(b"t%d" % place for place in range(13, -1, -1))), runs(text)).any()


def test_a_short_text_is_one_run_and_an_empty_one_has_none():
    assert len(runs(b"return x")) == 1
    assert not np.isin(runs(b"return x"), runs(b"return y")).any()
    assert len(runs(b" \n")) == 0


@pytest.mark.parametrize("seed", range(8))
def test_runs_of_many_texts_are_those_of_each(seed):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, 25, draw.integers(1, 12))
    texts = [b" ".join(b"t%d" % token for token in draw.integers(0, 9, length)) for length in lengths]
    texts.append("naïve = \u4e2d".encode())
    expected = np.unique(np.concatenate([runs(text) for text in texts]))
    assert np.array_equal(np.unique(runs_of(texts)), expected)
    assert np.array_equal(np.unique(runs_of(texts[::-1])), expected)


def test_texts_without_tokens_have_no_run():
    assert len(runs_of([b""])) == len(runs_of([b" ", b"", b"\n"])) == 0


@pytest.mark.parametrize("chunk_words", [1, 3, 64, 10_000])
def test_what_is_written_is_sorted_and_each_once_for_any_chunk(tmp_path, chunk_words):
    arrays = [random_words(seed, 50 + seed, 400) for seed in range(12)]
    path = tmp_path / "runs"
    expected = np.unique(np.concatenate(arrays))
    assert write_words(path, arrays, chunk_words=chunk_words) == len(expected)
    assert np.array_equal(np.fromfile(path, "<u8"), expected)
    assert os.listdir(tmp_path) == ["runs"]


@pytest.mark.parametrize("chunk_words", [1, 7, 10_000])
def test_known_is_membership_in_any_file(tmp_path, chunk_words):
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "empty"]
    held = [random_words(1, 60, 300), random_words(2, 60, 300), words()]
    for path, array in zip(paths, held, strict=True):
        write_words(path, [array])
    asked = np.unique(random_words(3, 200, 300))
    assert np.array_equal(known(asked, paths, chunk_words=chunk_words), np.isin(asked, np.concatenate(held)))
    assert not known(words(), paths).any()
    assert not known(asked, []).any()


def test_the_ends_of_the_range_are_found(tmp_path):
    top = 2**64 - 1
    write_words(tmp_path / "a", [words(top, 0)])
    assert known(words(0, 1, top), [tmp_path / "a"]).tolist() == [True, False, True]


def test_the_file_that_knows_is_named(tmp_path):
    write_words(tmp_path / "a", [words(1, 2)])
    write_words(tmp_path / "b", [words(3)])
    assert first_file_with(words(3, 9), [tmp_path / "a", tmp_path / "b"]) == tmp_path / "b"
    assert first_file_with(words(9), [tmp_path / "a", tmp_path / "b"]) is None


def test_a_failure_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a"
    write_words(path, [words(1)])

    def broken():
        yield words(5)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_words(path, broken())
    assert np.fromfile(path, "<u8").tolist() == [1]
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_is_an_error_of_the_machine(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="No space left"):
        write_words(tmp_path / "a", [words(1)])
