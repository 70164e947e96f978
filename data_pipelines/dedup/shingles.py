"""Code as a set of word 5-grams: case and punctuation kept, white space dropped."""

import re
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Words64 = NDArray[np.uint64]
TOKEN = re.compile(rb"[A-Za-z0-9_\x80-\xff]+|[^\sA-Za-z0-9_\x80-\xff]")
LENGTH: Final = 5
# odd multipliers of a polynomial hash modulo 2^64, from SplitMix64 (Steele et al. 2014, doi 10.1145/2660193.2660195)
MULTIPLIERS = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64
)


def shingles(text: bytes) -> Words64:
    """Sorted unique hashes of the 5-grams; a text of fewer tokens is one shingle, an empty text has none."""
    tokens = TOKEN.findall(text)
    if not tokens:
        return np.zeros(0, np.uint64)
    hashes = mix(np.fromiter(((crc32(token) << 16) ^ len(token) for token in tokens), np.uint64, len(tokens)))
    if len(hashes) < LENGTH:
        hashes = np.pad(hashes, (0, LENGTH - len(hashes)))
    total = np.zeros(len(hashes) - LENGTH + 1, np.uint64)
    for place in range(LENGTH):
        total += mix(hashes[place : len(hashes) - LENGTH + 1 + place] * MULTIPLIERS[place])
    return np.unique(total)


def mix(values: Words64) -> Words64:
    """The finalizer of SplitMix64, element by element."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values = values ^ (values >> np.uint64(27))
    values = values * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def jaccard(one: Words64, other: Words64) -> float:
    """Exact Jaccard similarity of two sorted unique arrays; two empty ones are equal."""
    if not len(one) and not len(other):
        return 1.0
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)
