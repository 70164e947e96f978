"""The leakage gate: nothing in the novel slice was in train, as a run of ten tokens, a function, or a change.

What train holds is written as it is mined (taught, then write_words per output shard); held-out rows are judged
against those files afterwards, so nothing grows in memory. A row that fails is moved from novel to evolving rather than
dropped: it is held out all the same, evolving promises no more than that, and common code that a model meets every day
would otherwise be measured nowhere.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath

import numpy as np

from data_pipelines.dedup.shingles import Words64, distinct, token_places
from data_pipelines.split.grams import RUN_TOKENS, among, first_file_with, known, runs
from finetune.contracts.dataset import Role, Segment
from finetune.contracts.edit_blocks import DIVIDER, REPLACE, SEARCH, Block
from finetune.contracts.errors import DatasetError

NONE: Words64 = np.zeros(0, np.uint64)
NUMBER = re.compile(r"(?<![\w&])(?:#|!|GH-|gh-)(\d+)\b")
TICKET = re.compile(r"^\W*([A-Z][A-Z0-9]+-\d+)\b")
GATE_HINT = (
    "This is a fault of the build and not of your data: nothing was written. Run the same command once more; if it "
    "says so again, report it with the names above."
)


@dataclass(frozen=True, slots=True)
class Marks:
    """What of a row must not be in train, and what a train row teaches: runs of tokens, functions, changes.

    Sorted numbers, each once. The three are looked up in files of their own.
    """

    runs: Words64
    functions: Words64 = field(default_factory=lambda: NONE)
    changes: Words64 = field(default_factory=lambda: NONE)


@dataclass(frozen=True, slots=True)
class Train:
    """The files of what train holds, written by write_words; any number of each kind."""

    runs: Sequence[Path]
    functions: Sequence[Path] = ()
    changes: Sequence[Path] = ()


REASONS = {
    "runs": f"{RUN_TOKENS} tokens in a row are in train",
    "functions": "a function equal but for its name is in train",
    "changes": "the same change, commit or request is in train",
}


def taught_texts(segments: Sequence[Segment]) -> list[bytes]:
    """The texts whose runs a train row teaches: all, learned or shown. Text around a gap and the gap are one text."""
    return [text.encode("utf-8") for text in _texts(segments)]


def asked(segments: Sequence[Segment]) -> Words64:
    """The runs of a held-out row that must not be in train: each that lies inside what is learned.

    A gap of fewer than ten tokens is judged by the runs of its surroundings that hold all of it. The lines that frame
    search/replace blocks count for nothing: every edit has them.
    """
    gap = _gap(segments)
    pieces = [gap] if gap is not None else [piece for segment in segments if segment.loss for piece in code(segment)]
    found = [runs(piece if isinstance(piece, bytes) else piece.encode("utf-8")) for piece in pieces]
    return distinct(np.concatenate(found)) if found else NONE


def code(segment: Segment) -> list[str]:
    """The text of a segment, cut at the lines that frame search/replace blocks; these and their paths are left out."""
    if SEARCH not in segment.text:
        return [segment.text]
    pieces: list[list[str]] = [[]]
    expected = SEARCH
    following = {SEARCH: DIVIDER, DIVIDER: REPLACE, REPLACE: SEARCH}
    for line in segment.text.splitlines(keepends=True):
        if line.rstrip("\r\n") != expected:
            pieces[-1].append(line)
            continue
        if expected == SEARCH and pieces[-1]:
            pieces[-1].pop()
        expected = following[expected]
        pieces.append([])
    return [text for piece in pieces if (text := "".join(piece)).strip()]


def requests_of(message: str) -> tuple[str, ...]:
    """The requests, issues and tickets that a message as it was written names."""
    return tuple(dict.fromkeys([*NUMBER.findall(message), *TICKET.findall(message)]))


def change_keys(
    requests: Iterable[str], blocks: Iterable[tuple[str, Block]], *, repo: str, commit: str
) -> tuple[str, ...]:
    """What names a change: its commit, each request or issue that its message names, each block with its file.

    Blocks are told apart by the name of the file without folders, and by their differing lines without white space: a
    change that was picked to another branch or folder is the same change.
    """
    keys = [f"commit:{commit}", *(f"request:{repo}:{name}" for name in requests)]
    for path, block in blocks:
        old, new = block.search.splitlines(), block.replace.splitlines()
        while old and new and old[0] == new[0]:
            old, new = old[1:], new[1:]
        while old and new and old[-1] == new[-1]:
            old, new = old[:-1], new[:-1]
        sides = ["".join("".join(line.split()) for line in side) for side in (old, new)]
        keys.append(f"block:{PurePosixPath(path).name}:{len(sides[0])}:{sides[0]}{sides[1]}")
    return tuple(sorted(set(keys)))


def change_words(keys: Iterable[str]) -> Words64:
    """Change keys as sorted numbers."""
    numbers = [int.from_bytes(blake2b(key.encode("utf-8"), digest_size=8).digest()) for key in keys]
    return distinct(np.array(numbers, np.uint64))


def leaks(rows: Sequence[Marks], train: Train) -> list[str]:
    """For each row the first reason why it is not novel, "" for none. One look-up for all, so pass many at once."""
    reasons = [""] * len(rows)
    for kind, files in (("runs", train.runs), ("functions", train.functions), ("changes", train.changes)):
        wanted = [getattr(row, kind) for row in rows]
        words = distinct(np.concatenate([*wanted, NONE]))
        hits = words[known(words, files)]
        for place, own in enumerate(wanted):
            if not reasons[place] and among(own, hits).any():
                reasons[place] = REASONS[kind]
    return reasons


def check_gate(novel: Sequence[tuple[str, Marks]], train: Train) -> None:
    """Look once more at (id, marks) of rows that are about to be written as novel.

    Raises DatasetError when one of them is in train after all: the filter before was wrong, and no dataset may come of
    it. The message counts them and names a row with the file of train that knows it.
    """
    found = [
        (name, marks, reason)
        for (name, marks), reason in zip(novel, leaks([m for _, m in novel], train), strict=True)
        if reason
    ]
    if not found:
        return
    name, marks, reason = found[0]
    kind = next(kind for kind, text in REASONS.items() if text == reason)
    file = first_file_with(getattr(marks, kind), getattr(train, kind))
    raise DatasetError(
        f"Leakage gate: {len(found)} of {len(novel)} rows in the novel slice are in train. Row {name}: {reason}, "
        f"in {file.name if file else 'train'}.",
        GATE_HINT,
    )


def _texts(segments: Sequence[Segment]) -> list[str]:
    around = {segment.role: segment.text for segment in segments if segment.role in (Role.PREFIX, Role.SUFFIX)}
    if not around:
        return [piece for segment in segments for piece in code(segment)]
    target = "".join(segment.text for segment in segments if segment.role is Role.TARGET)
    whole = around.get(Role.PREFIX, "") + target + around.get(Role.SUFFIX, "")
    return [whole, *(piece for segment in segments if segment.role is Role.CONTEXT for piece in code(segment))]


def _gap(segments: Sequence[Segment]) -> bytes | None:
    """The stretch whose runs a gap is judged by; None when the row has no gap, empty when the gap has no token."""
    texts = {segment.role: segment.text.encode("utf-8") for segment in segments if segment.role is not Role.CONTEXT}
    if Role.PREFIX not in texts and Role.SUFFIX not in texts:
        return None
    prefix, target = texts.get(Role.PREFIX, b""), texts.get(Role.TARGET, b"")
    whole = prefix + target + texts.get(Role.SUFFIX, b"")
    starts, ends = token_places(whole)
    first = int(np.searchsorted(ends, len(prefix), side="right"))
    last = int(np.searchsorted(starts, len(prefix) + len(target))) - 1
    if last < first:
        return b""
    more = max(0, RUN_TOKENS - (last - first + 1))
    return whole[starts[max(0, first - more)] : ends[min(len(ends) - 1, last + more)]]
