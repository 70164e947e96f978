"""Megabytes per CPU-second of each step from texts to near-duplicate clusters.

python bench/near_duplicates.py [PLACE...] [--max-mb 200] [--history] [--threshold 0.7]

A place is a repository (bare or a clone, its head is read) or a plain folder; without one the standard library of this
interpreter. Time is that of the process (user and system), one core, around the step alone; texts are read before and
held in memory, which the build does not do. `shingles` are the sorted sets of 5-grams, `bands` all from text to band
hashes, `table` storing the bands, finding candidates and comparing them; `end to end` is bands and table together.
"""

import argparse
import resource
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from code_texts import texts_of

from data_pipelines.dedup.clusters import NearTable
from data_pipelines.dedup.minhash import bands_of
from data_pipelines.dedup.shingles import shingles

ResultT = TypeVar("ResultT")
MB = 1_000_000
BAR = 10.0
HEADER = ("texts of", "texts", "MB", "shingles", "bands", "table", "end to end", "twins", "read again")


@dataclass
class Row:
    """Seconds by step, of `megabytes` in `texts` texts; twins have a representative other than themselves."""

    name: str
    texts: int
    megabytes: float
    shingles: float
    bands: float
    table: float
    twins: int
    read_again: int

    def cells(self) -> list[str]:
        speeds = (self.shingles, self.bands, self.table, self.bands + self.table)
        return [
            self.name,
            f"{self.texts:,}",
            f"{self.megabytes:.1f}",
            *(f"{self.megabytes / max(seconds, 1e-9):.1f}" for seconds in speeds),
            f"{self.twins:,}",
            f"{self.read_again:,}",
        ]


def main() -> int:
    arguments = parser().parse_args()
    places = arguments.places or [Path(sysconfig.get_path("stdlib"))]
    everything: list[bytes] = []
    rows = []
    room = arguments.max_mb * MB
    for place in places:
        texts = []
        for text in texts_of(place, history=arguments.history):
            if (room := room - len(text)) < 0:
                break
            texts.append(text)
        if texts:
            rows.append(measure(name_of(place), texts, arguments.threshold))
            everything += texts
    if not everything:
        sys.stderr.write("No UTF-8 file of a usual size there. Give another folder or repository.\n")
        return 1
    together = measure("together", everything, arguments.threshold) if len(rows) > 1 else rows[0]
    print(markdown(rows + ([together] if len(rows) > 1 else [])))
    speed = together.megabytes / (together.bands + together.table)
    print(f"\nMB per CPU-second; the bar is {BAR:.0f} end to end: {'held' if speed >= BAR else 'MISSED'}.")
    print(f"Peak memory with all texts held: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB.")
    return 0 if speed >= BAR else 1


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("places", nargs="*", type=Path)
    made.add_argument("--max-mb", type=int, default=200)
    made.add_argument("--history", action="store_true", help="also what the files of a repository were before")
    made.add_argument("--threshold", type=float, default=0.7)
    return made


def name_of(place: Path) -> str:
    """The folder's name; of <owner>+<name>/repo the middle part."""
    folder = place.resolve()
    return (folder.parent.name if folder.name == "repo" else folder.name).replace("+", "/").removesuffix(".git")


def measure(name: str, texts: list[bytes], threshold: float) -> Row:
    """One pass over the texts, after a few that fill the caches."""
    for text in texts[:20]:
        bands_of(text)
    in_shingles, _ = timed(lambda: sum(len(shingles(text)) for text in texts))
    in_bands, bands = timed(lambda: [bands_of(text) for text in texts])
    reads = 0

    def read(unit: int) -> bytes:
        nonlocal reads
        reads += 1
        return texts[unit]

    def join() -> int:
        with NearTable() as table:
            for unit, found in enumerate(bands):
                table.add(unit, found)
            clusters = table.clusters(read, threshold=threshold)
        return int(np.count_nonzero(clusters.representatives != clusters.units))

    in_table, twins = timed(join)
    return Row(name, len(texts), sum(map(len, texts)) / MB, in_shingles, in_bands, in_table, twins, reads)


def timed(work: Callable[[], ResultT]) -> tuple[float, ResultT]:
    """CPU-seconds of this process, and what came of it."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def markdown(rows: list[Row]) -> str:
    lines = [HEADER, ["---", *["--:"] * (len(HEADER) - 1)], *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
