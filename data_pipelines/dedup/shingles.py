"""Code as a set of word n-grams: case and punctuation kept, white space dropped.

A token is a run of ASCII letters, digits, underscores and bytes above 127, or one other byte that is no white space.
Everything is hashed modulo 2^64 in whole arrays, with no Python step per token: the polynomial of a token is the
difference of two prefix sums over its block of the text, divided by the power at which it starts.
"""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Words64 = NDArray[np.uint64]
WordT = TypeVar("WordT", np.uint32, np.uint64)
Places = NDArray[np.intp]
LENGTH: Final = 5
# bytes hashed at once: their prefix sums and powers stay in a core's second-level cache
BLOCK: Final = 1 << 15
SPACE, SYMBOL, WORD = 0, 1, 2
_WORD_BYTES = b"_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + bytes(range(128, 256))
_KINDS = np.full(256, SYMBOL, np.uint8)
_KINDS[list(b" \t\n\r\v\f")] = SPACE
_KINDS[list(_WORD_BYTES)] = WORD
# odd numbers, so that each has an inverse modulo 2^64; the first is that of SplitMix64
# (Steele et al. 2014, doi 10.1145/2660193.2660195)
_BYTE_BASE: Final = 0x9E3779B97F4A7C15
_TOKEN_BASE: Final = np.uint64(0xD6E8FEB86659FD93)


def _powers(base: int) -> Words64:
    powers = np.full(BLOCK, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


_POWERS, _INVERSES = _powers(_BYTE_BASE), _powers(pow(_BYTE_BASE, -1, 1 << 64))


def shingles(text: bytes, *, length: int = LENGTH) -> Words64:
    """Sorted unique hashes of the n-grams; a text of fewer tokens is one shingle, an empty text has none."""
    hashes = gram_hashes(text, length)
    hashes.sort()
    return unique(hashes)


def gram_hashes(text: bytes, length: int = LENGTH) -> Words64:
    """The hash of each n-gram in text order, equal ones as often as they occur; length counts tokens, at least 1."""
    data, starts, ends = _tokens(text)
    return _grams(_token_hashes(data, starts, ends), length)


def token_places(text: bytes) -> tuple[Places, Places]:
    """Where the tokens of a text start and end, in its order; gram_hashes are those of runs of these tokens."""
    _, starts, ends = _tokens(text)
    return starts, ends


def mix(values: Words64) -> Words64:
    """The finalizer of SplitMix64, element by element: one to one, and every bit depends on every bit."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def unique(ordered: NDArray[WordT]) -> NDArray[WordT]:
    """Each value of a sorted array once (np.unique of numpy 2.4 goes through a hash table, five times slower)."""
    first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def distinct(values: NDArray[WordT]) -> NDArray[WordT]:
    """The values sorted, each once."""
    return unique(np.sort(values))


def jaccard(one: Words64, other: Words64) -> float:
    """Exact Jaccard similarity of two sorted unique arrays; two empty ones are equal."""
    if not len(one) and not len(other):
        return 1.0
    both = np.concatenate((one, other))
    # a stable sort is a merge here: both halves are sorted already
    both.sort(kind="stable")
    common = int(np.count_nonzero(both[1:] == both[:-1]))
    return common / (len(both) - common)


def _tokens(text: bytes) -> tuple[NDArray[np.uint8], Places, Places]:
    data = np.frombuffer(text, np.uint8)
    kinds = _KINDS.take(data)
    # whether the bytes before and after a border belong to one token; false at both ends of the text
    joined = np.zeros(len(data) + 1, np.bool_)
    np.equal(kinds[1:] & kinds[:-1], WORD, out=joined[1:-1])
    solid = kinds != SPACE
    return data, np.flatnonzero(solid > joined[:-1]), np.flatnonzero(solid > joined[1:]) + 1


def _token_hashes(data: NDArray[np.uint8], starts: Places, ends: Places) -> Words64:
    hashes = np.empty(len(starts), np.uint64)
    first = 0
    while first < len(starts):
        begin = starts[first]
        # whole tokens only, as many as end within a block
        last = int(np.searchsorted(ends, begin + BLOCK, side="right"))
        if last > first:
            block = data[begin : ends[last - 1]]
            hashes[first:last] = _short_tokens(block, starts[first:last] - begin, ends[first:last] - begin)
        else:
            last = first + 1
            hashes[first] = _long_token(data[begin : ends[first]])
        first = last
    return mix(hashes)


def _short_tokens(block: NDArray[np.uint8], starts: Places, ends: Places) -> Words64:
    sums = np.zeros(len(block) + 1, np.uint64)
    np.cumsum(_terms(block), out=sums[1:])
    hashes = sums.take(ends)
    hashes -= sums.take(starts)
    hashes *= _INVERSES.take(starts)
    return hashes


def _long_token(token: NDArray[np.uint8]) -> np.uint64:
    """The same polynomial as that of a short token, block by block from the last to the first (Horner)."""
    total = 0
    for start in reversed(range(0, len(token), BLOCK)):
        total = total * pow(_BYTE_BASE, BLOCK, 1 << 64) + int(_terms(token[start : start + BLOCK]).sum())
    return np.uint64(total % (1 << 64))


def _terms(block: NDArray[np.uint8]) -> Words64:
    # one is added so that a zero byte counts
    terms = block + np.uint64(1)
    terms *= _POWERS[: len(block)]
    return terms


def _grams(tokens: Words64, length: int) -> Words64:
    if 0 < len(tokens) < length:
        tokens = np.pad(tokens, (0, length - len(tokens)))
    count = max(len(tokens) - length + 1, 0)
    total = tokens[:count].copy()
    for place in range(1, length):
        total *= _TOKEN_BASE
        total += tokens[place : place + count]
    return mix(total)
