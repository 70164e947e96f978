import numpy as np
import pytest

from data_pipelines.dedup.clusters import NearIndex
from data_pipelines.dedup.minhash import bands, signature
from data_pipelines.dedup.shingles import jaccard, shingles
from data_pipelines.spool import Spool


def words(start, count):
    return " ".join(f"word{number} =" for number in range(start, start + count)).encode()


def clusters(tmp_path, texts, threshold=0.7):
    with Spool(tmp_path / "spool") as spool:
        index = NearIndex(spool, threshold=threshold)
        for text in texts:
            index.add(text)
        return index.clusters()


def test_shingles_ignore_white_space_and_keep_case_and_punctuation():
    assert np.array_equal(shingles(b"a = b +  c\n\td(e)"), shingles(b"a=b+c d ( e )"))
    assert jaccard(shingles(b"a = b + c"), shingles(b"A = b + c")) < 1
    assert jaccard(shingles(b"f(a, b, c)"), shingles(b"f(a; b; c)")) < 1
    assert len(shingles(b"one two")) == 1
    assert len(shingles(b" \n")) == 0


def test_jaccard_is_exact():
    one, other = np.array([1, 2, 3, 4], np.uint64), np.array([3, 4, 5], np.uint64)
    assert jaccard(one, other) == pytest.approx(2 / 5)
    assert jaccard(one[:0], one[:0]) == 1.0


def test_signatures_estimate_jaccard():
    one, other = shingles(words(0, 3000)), shingles(words(500, 3000))
    estimate = float(np.mean(signature(one) == signature(other)))
    assert estimate == pytest.approx(jaccard(one, other), abs=0.1)
    assert bands(signature(one)).shape == (32,)


def test_the_signature_of_a_text_never_changes():
    """Stored signatures of an older version must stay comparable; a change needs a new name in minhash.SIGNATURE."""
    assert bands(signature(shingles(b"def f(x):\n    return x + 1\n")))[:2].tolist() == [
        17990583091200332215,
        11851901258884444308,
    ]


def test_near_duplicates_share_a_cluster_and_others_do_not(tmp_path):
    base = words(0, 400)
    found = clusters(tmp_path, [base, words(1000, 400), base + b" tail = 1", words(200, 400), base])
    assert found == [0, 1, 0, 3, 0]


def test_a_shared_band_alone_joins_nothing(tmp_path):
    """0.6 alike: most such pairs share a band, and none may be joined below the threshold."""
    texts = [words(start, 400) for pair in range(20) for start in (pair * 1000, pair * 1000 + 100)]
    assert 0.55 < jaccard(shingles(texts[0]), shingles(texts[1])) < 0.65
    assert clusters(tmp_path, texts) == list(range(40))
    assert len(set(clusters(tmp_path, texts, threshold=0.5))) < 36


def test_large_bands_are_compared_in_linear_time(tmp_path):
    assert clusters(tmp_path, [words(0, 50)] * 2_000) == [0] * 2_000


def test_no_texts_and_empty_texts(tmp_path):
    assert clusters(tmp_path, []) == []
    assert clusters(tmp_path, [b"", b"a b c d e f", b""]) == [0, 1, 0]
