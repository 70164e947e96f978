import numpy as np
import pytest

from data_pipelines.dedup.minhash import BANDS_BYTES, bands, bands_of, signature
from data_pipelines.dedup.shingles import mix, shingles

PERMUTATIONS, BANDS, ROWS = 256, 32, 8


def pair(number, size, similarity):
    """Two sets of `size` made-up shingles each whose Jaccard similarity is nearly the one asked for."""
    common = round(2 * size * similarity / (1 + similarity))
    values = mix(np.arange(number * 10_000_000, number * 10_000_000 + 2 * size - common, dtype=np.uint64))
    return values[:size], values[size - common :], common / (2 * size - common)


@pytest.mark.parametrize("size", [20, 300, 3_000])
@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.9])
def test_signatures_estimate_jaccard_as_well_as_random_permutations_would(size, similarity):
    num_pairs = 60
    errors = []
    for number in range(num_pairs):
        one, other, exact = pair(number, size, similarity)
        errors.append(float(np.mean(signature(one) == signature(other))) - exact)
    spread = np.sqrt(similarity * (1 - similarity) / PERMUTATIONS)
    assert abs(np.mean(errors)) < 4 * spread / np.sqrt(num_pairs)
    assert 0.6 * spread < np.std(errors) < 1.5 * spread


@pytest.mark.parametrize(("similarity", "low", "high"), [(0.5, 0.03, 0.24), (0.7, 0.76, 0.94), (0.8, 0.97, 1.0)])
def test_pairs_share_a_band_as_often_as_theory_says(similarity, low, high):
    theory = 1 - (1 - similarity**ROWS) ** BANDS
    assert low < theory < high
    shared = 0
    for number in range(200):
        one, other, _ = pair(number, 200, similarity)
        shared += bool(np.any(bands(signature(one)) == bands(signature(other))))
    assert low < shared / 200 <= high


def test_a_shingle_of_hash_zero_does_not_decide_the_signature():
    one, other, exact = pair(0, 300, 0.5)
    assert one[0] == 0 and exact == pytest.approx(0.5)
    assert float(np.mean(signature(one) == signature(np.append(other, one[:1])))) == pytest.approx(0.5, abs=0.13)


def test_order_and_repetition_of_shingles_do_not_matter():
    values = mix(np.arange(2_000, dtype=np.uint64))
    assert np.array_equal(signature(values), signature(np.concatenate((values[::-1], values[:700]))))


def test_bands_of_a_text_are_256_bytes_and_white_space_does_not_count():
    assert len(bands_of(b"")) == BANDS_BYTES == 256
    assert bands_of(b"x = f(1)\n") == bands_of(b"x=f( 1 )")
    assert bands_of(b"x = f(1)\n") != bands_of(b"X = f(1)\n")


def test_the_bands_of_a_text_never_change():
    """Stored bands of an older version must stay comparable; a change needs a new name in minhash.SIGNATURE."""
    text = b"def f(x):\n    return x + 1\n"
    assert np.array_equal(bands(signature(shingles(text))), np.frombuffer(bands_of(text), "<u8"))
    assert bands_of(text)[:16].hex() == "f0c886a9af02c125f03bd0f92172b933"
