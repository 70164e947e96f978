"""The vectorised shingles against a twin in plain Python that compares tokens and never hashes."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.dedup import shingles as module
from data_pipelines.dedup.shingles import BLOCK, gram_hashes, jaccard, shingles, token_places

TOKEN = re.compile(rb"[A-Za-z0-9_\x80-\xff]+|[^\s]")


def slow_grams(text, length):
    """Tuples of tokens with the bytes they cover; a text of fewer tokens is one tuple."""
    tokens = list(TOKEN.finditer(text))
    if 0 < len(tokens) < length:
        return [(tuple(token.group() for token in tokens), tokens[0].start(), tokens[-1].end())]
    windows = [tokens[place : place + length] for place in range(len(tokens) - length + 1)]
    return [(tuple(token.group() for token in window), window[0].start(), window[-1].end()) for window in windows]


def random_text(draw):
    alphabet = draw.choice([b"ab \n", bytes(range(256)), b"f(x)_1 =+\t", "é→ x.".encode()])
    return bytes(draw.choices(alphabet, k=draw.choice([0, 1, 3, 20, 300])))


def own_sources():
    return [path.read_bytes() for path in sorted(Path(module.__file__).parents[1].rglob("*.py"))]


def assert_alike(texts, length):
    """Equal grams have equal hashes and different ones different hashes, over all texts together; so do places."""
    hash_of, gram_of = {}, {}
    for text in texts:
        expected = slow_grams(text, length)
        hashes = gram_hashes(text, length)
        starts, ends = token_places(text)
        assert starts[: len(hashes)].tolist() == [start for _, start, _ in expected]
        assert ends[len(ends) - len(hashes) :].tolist() == [end for _, _, end in expected]
        for (gram, _, _), hashed in zip(expected, hashes.tolist(), strict=True):
            assert hash_of.setdefault(gram, hashed) == hashed
            assert gram_of.setdefault(hashed, gram) == gram
        assert shingles(text, length=length).tolist() == sorted({hash_of[gram] for gram, _, _ in expected})


@pytest.mark.parametrize("length", [1, 5, 10])
def test_random_texts_have_the_grams_of_the_plain_twin(length):
    draw = random.Random(length)
    assert_alike([random_text(draw) for _ in range(300)], length)


@pytest.mark.parametrize("length", [5, 10])
def test_real_sources_have_the_grams_of_the_plain_twin(length):
    assert_alike(own_sources(), length)


def test_a_token_hashes_alike_wherever_it_lies(monkeypatch):
    """Blocks are cut between tokens, and a token longer than a block is hashed whole."""
    monkeypatch.setattr(module, "BLOCK", 16)
    long = b"x" * 50
    texts = [b"a b " * 40, b" " * 33 + b"a b a b", long + b" = 1", b"y = " + long + b" + " + long, b"f(" * 20]
    assert_alike(texts, 2)


def test_a_token_longer_than_a_block_is_one_token():
    long = b"x" * (3 * BLOCK) + b"y"
    assert_alike([long + b" = 1", b"a = " + long, long[1:] + b"b", long[:BLOCK], b"a" + long[:BLOCK]], 1)


def test_shingles_ignore_white_space_and_keep_case_and_punctuation():
    assert np.array_equal(shingles(b"a = b +  c\n\td(e)"), shingles(b"a=b+c d ( e )"))
    assert jaccard(shingles(b"a = b + c"), shingles(b"A = b + c")) < 1
    assert jaccard(shingles(b"f(a, b, c)"), shingles(b"f(a; b; c)")) < 1
    assert len(shingles(b"one two")) == 1
    assert len(shingles(b" \n")) == 0


def test_jaccard_is_exact():
    one, other = np.array([1, 2, 3, 4], np.uint64), np.array([3, 4, 5], np.uint64)
    assert jaccard(one, other) == pytest.approx(2 / 5)
    assert jaccard(one, one) == 1.0
    assert jaccard(one, one[:0]) == 0.0
    assert jaccard(one[:0], one[:0]) == 1.0
