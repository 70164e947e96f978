"""Runs of ten tokens as sorted 64-bit hashes in raw files on disk: written shard by shard, looked up without reading.

A file is nothing but little-endian unsigned 64-bit numbers, sorted, each once. Two different runs with one hash can
only take a row out of the novel slice, never leave it there.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_pipelines.dedup.shingles import Words64, distinct, gram_hashes, shingles, token_places
from finetune.contracts.io import FILE_MODE, disk_errors

# as in the decontamination of DeepSeek-Coder (arXiv 2401.14196, section 2.1)
RUN_TOKENS: Final = 10
WORD: Final = np.dtype("<u8")
# 32 MiB of a file are looked at, or held, at a time
CHUNK_WORDS: Final = 1 << 22


def runs(text: bytes) -> Words64:
    """Sorted unique hashes of the runs of ten tokens; a text of fewer tokens is one run or none."""
    return shingles(text, length=RUN_TOKENS)


def runs_of(texts: Sequence[bytes]) -> Words64:
    """The runs of each of the texts, in no order, some of them twice; no run reaches from one text into the next.

    All are hashed as one text: a call for each costs more than the hashing of a short one.
    """
    whole = b"\n".join(texts)
    found = gram_hashes(whole, RUN_TOKENS)
    borders = np.searchsorted(token_places(whole)[0], np.cumsum([len(text) + 1 for text in texts]))
    inside = np.ones(len(found), np.bool_)
    first, short = 0, []
    for text, border in zip(texts, borders.tolist(), strict=True):
        inside[max(0, border - RUN_TOKENS + 1) : border] = False
        if 0 < border - first < RUN_TOKENS:
            short.append(runs(text))
        first = border
    return np.concatenate([found[inside], *short])


def write_words(path: Path, arrays: Iterable[Words64], *, chunk_words: int = CHUNK_WORDS) -> int:
    """Write all numbers of the arrays, sorted, each once; returns how many. At most about two chunks are in memory."""
    with disk_errors(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        parts: list[Path] = []
        for part in _sorted_parts(arrays, chunk_words):
            parts.append(Path(folder) / str(len(parts)))
            part.astype(WORD, copy=False).tofile(parts[-1])
        whole = Path(folder) / "whole"
        with whole.open("wb") as stream:
            for block in _merged([_mapped(part) for part in parts], chunk_words):
                stream.write(block.astype(WORD, copy=False).data)
            stream.flush()
            os.fsync(stream.fileno())
            size = stream.tell()
        whole.chmod(FILE_MODE)
        whole.replace(path)
    return size // WORD.itemsize


def read_words(path: Path, *, chunk_words: int = CHUNK_WORDS) -> Iterator[Words64]:
    """The numbers of a file, ascending, some at a time."""
    for start in range(0, _size(path), chunk_words):
        yield _mapped(path, start, chunk_words)


def known(words: Words64, files: Sequence[Path], *, chunk_words: int = CHUNK_WORDS) -> NDArray[np.bool_]:
    """For each of the sorted numbers whether one of the files holds it."""
    found = np.zeros(len(words), np.bool_)
    for path in files:
        for chunk in read_words(path, chunk_words=chunk_words):
            _look_up(words, chunk, found)
    return found


def among(words: Words64, known_words: Words64) -> NDArray[np.bool_]:
    """For each number whether it is one of the sorted known ones."""
    if not len(known_words):
        return np.zeros(len(words), np.bool_)
    places = np.minimum(np.searchsorted(known_words, words), len(known_words) - 1)
    return np.equal(known_words[places], words)


def first_file_with(words: Words64, files: Sequence[Path]) -> Path | None:
    """The first file that holds one of the sorted numbers; None when none does."""
    return next((path for path in files if known(words, [path]).any()), None)


def _look_up(words: Words64, chunk: Words64, found: NDArray[np.bool_]) -> None:
    first, last = np.searchsorted(words, chunk[0]), np.searchsorted(words, chunk[-1], side="right")
    wanted = words[first:last]
    # a search for each of the fewer among the more
    if 0 < len(wanted) <= len(chunk):
        found[first:last] |= chunk[np.searchsorted(chunk, wanted)] == wanted
    elif len(wanted):
        places = np.minimum(np.searchsorted(wanted, chunk), len(wanted) - 1)
        found[first + places[wanted[places] == chunk]] = True


def _size(path: Path) -> int:
    return path.stat().st_size // WORD.itemsize


def _mapped(path: Path, start: int = 0, limit: int | None = None) -> Words64:
    """A part of a file, mapped afresh so that its pages leave memory with it."""
    size = _size(path) - start
    size = size if limit is None else min(size, limit)
    return np.memmap(path, WORD, mode="r", offset=start * WORD.itemsize, shape=(size,))


def _sorted_parts(arrays: Iterable[Words64], chunk_words: int) -> Iterator[Words64]:
    held: list[Words64] = []
    size = 0
    for array in arrays:
        if not len(array):
            continue
        held.append(array)
        size += len(array)
        if size >= chunk_words:
            yield distinct(np.concatenate(held))
            held, size = [], 0
    if held:
        yield distinct(np.concatenate(held))


def _merged(parts: Sequence[Words64], chunk_words: int) -> Iterator[Words64]:
    """The sorted parts as one: per round all numbers up to the least end of what is taken from each."""
    if len(parts) == 1:
        yield from (parts[0][start : start + chunk_words] for start in range(0, len(parts[0]), chunk_words))
        return
    step = max(1, chunk_words // max(1, len(parts)))
    places = [0] * len(parts)
    while any(place < len(part) for place, part in zip(places, parts, strict=True)):
        ahead = [part[place : place + step] for place, part in zip(places, parts, strict=True)]
        end = min(block[-1] for block in ahead if len(block))
        taken = [block[: np.searchsorted(block, end, side="right")] for block in ahead]
        places = [place + len(block) for place, block in zip(places, taken, strict=True)]
        yield distinct(np.concatenate(taken))
