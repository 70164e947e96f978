"""MinHash signatures of 256 permutations in 32 bands of 8 rows.

A pair of Jaccard 0.7 shares a band with probability 1 - (1 - 0.7^8)^32 = 0.85, of 0.8 with 0.997.
"""

import numpy as np
from numpy.typing import NDArray

from data_pipelines.dedup.shingles import Words64, mix

NUM_PERMUTATIONS, NUM_BANDS, ROWS_PER_BAND = 256, 32, 8
CHUNK = 1024
SIGNATURE = "multiply-shift-64/256/32x8/v1"
_SEEDS = mix(np.arange(1, 2 * NUM_PERMUTATIONS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
_MULTIPLY = _SEEDS[:NUM_PERMUTATIONS] | np.uint64(1)
_ADD = _SEEDS[NUM_PERMUTATIONS:]


def signature(shingles: Words64) -> NDArray[np.uint32]:
    """The least of each permutation (multiply-shift, Dietzfelbinger 1997), shape (256,). Empty gives all ones."""
    least = np.full(NUM_PERMUTATIONS, np.iinfo(np.uint32).max, np.uint32)
    for start in range(0, len(shingles), CHUNK):
        block = shingles[start : start + CHUNK, None] * _MULTIPLY + _ADD
        np.minimum(least, (block >> np.uint64(32)).astype(np.uint32).min(axis=0), out=least)
    return least


def bands(signature: NDArray[np.uint32]) -> Words64:
    """One hash per band, shape (32,); equal hashes of one band make two texts candidates."""
    rows = signature.reshape(NUM_BANDS, ROWS_PER_BAND).astype(np.uint64)
    total = np.zeros(NUM_BANDS, np.uint64)
    for place in range(ROWS_PER_BAND):
        total = mix(total ^ rows[:, place] + np.uint64(place + 1))
    return total
