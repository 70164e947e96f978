"""MinHash signatures of 256 permutations in 32 bands of 8 rows.

A pair of Jaccard 0.7 shares a band with probability 1 - (1 - 0.7^8)^32 = 0.85, of 0.8 with 0.997.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_pipelines.dedup.shingles import Words64, gram_hashes, mix, unique

Words32 = NDArray[np.uint32]
NUM_PERMUTATIONS, NUM_BANDS, ROWS_PER_BAND = 256, 32, 8
BANDS_BYTES: Final = NUM_BANDS * 8
# names what stored bands were made by; bands of two names must never be compared
SIGNATURE: Final = "multiply-32/256/32x8/v2"
# shingles permuted at once: 256 rows of 4 bytes each stay in a core's second-level cache
CHUNK: Final = 512
_SEEDS = mix(np.arange(1, NUM_PERMUTATIONS + ROWS_PER_BAND + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
_PERMUTATIONS = ((_SEEDS[:NUM_PERMUTATIONS] >> np.uint64(32)).astype(np.uint32) | np.uint32(1))[:, None]
_ROW_FACTORS = _SEEDS[NUM_PERMUTATIONS:] | np.uint64(1)


def bands_of(text: bytes) -> bytes:
    """The 32 band hashes of a text, little-endian, 256 bytes: texts with one in common are candidates."""
    return bands(signature(gram_hashes(text))).astype("<u8").tobytes()


def signature(shingles: Words64) -> Words32:
    """The least of each permutation, shape (256,); equal shingles and their order do not matter, none gives all ones.

    A permutation multiplies the upper half of a shingle's hash by an odd number modulo 2^32. That the product is not
    shifted and nothing is added costs no quality on hashes that are mixed already: the tests compare the estimate and
    the share of pairs with a common band with theory.
    """
    # odd: zero would be the least of every permutation, and make one shingle decide the whole signature
    values = unique(np.sort((shingles >> np.uint64(32)).astype(np.uint32) | np.uint32(1)))
    least = np.full(NUM_PERMUTATIONS, np.iinfo(np.uint32).max, np.uint32)
    room = np.empty((NUM_PERMUTATIONS, min(CHUNK, len(values))), np.uint32)
    for start in range(0, len(values), CHUNK):
        block = values[start : start + CHUNK]
        permuted = np.multiply(_PERMUTATIONS, block, out=room[:, : len(block)])
        np.minimum(least, permuted.min(axis=1), out=least)
    return least


def bands(signature: Words32) -> Words64:
    """One hash per band, shape (32,): a multilinear hash of its rows."""
    rows = signature.reshape(NUM_BANDS, ROWS_PER_BAND)
    # np.dot of integers is slower, and the sum is meant modulo 2^64
    return mix((rows * _ROW_FACTORS).sum(axis=1, dtype=np.uint64))
