"""Kill something again and again, let it go on, and see whether it ends as if it had not been disturbed."""

import random
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Of the kills, after which the work is let go on to its end
END_SHARE = 0.4
LEAST_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: seconds after the start, of which start in this folder, and what stood there afterwards."""

    seconds: float
    start: int
    there: str


class Victim(Protocol):
    """Work that can be begun, and gone on with, in a folder."""

    def killed(self, folder: Path, seconds: float) -> bool:
        """Start it and kill it after some seconds; False when it ended by itself before."""
        ...

    def finish(self, folder: Path) -> None:
        """Start it and wait for its end."""
        ...

    def ended(self, folder: Path) -> bool:
        """Whether nothing is left to go on with."""
        ...

    def there(self, folder: Path) -> str:
        """What it left, in words."""
        ...

    def undisturbed(self, folder: Path) -> bool:
        """Whether it ended as it does when nobody kills it."""
        ...


def kill_all(victim: Victim, scratch: Path, *, duration: float, times: int, seed: int) -> tuple[list[Kill], list[bool]]:
    """All kills, at moments spread over the duration and shuffled, and for each end whether it was undisturbed."""
    draw = random.Random(seed)
    step = duration / times
    moments = [LEAST_SECONDS + step * (number + draw.random()) for number in range(times)]
    draw.shuffle(moments)
    kills: list[Kill] = []
    ends: list[bool] = []
    folder, start = scratch / "0", 0
    while moments:
        seconds = moments.pop()
        start += 1
        started = time.monotonic()
        if victim.killed(folder, seconds):
            kills.append(Kill(seconds, start, victim.there(folder)))
            sys.stderr.write(f"kill {len(kills)} after {seconds:.1f} s: {kills[-1].there}\n")
            if moments and not victim.ended(folder) and draw.random() > END_SHARE:
                continue
            victim.finish(folder)
        else:
            # it was faster, because it went on from a kill or the machine has less to do: this kill must still come
            moments.insert(0, draw.uniform(LEAST_SECONDS, time.monotonic() - started))
        ends.append(victim.undisturbed(folder))
        if not ends[-1]:
            sys.stderr.write((folder / "log").read_text())
        shutil.rmtree(folder)
        folder, start = scratch / str(len(ends)), 0
    return kills, ends


def table(kills: Sequence[Kill]) -> str:
    """The kills in Markdown."""
    lines = ["| kill | seconds | start | what was there |", "|---|---|---|---|"]
    lines += [f"| {n} | {kill.seconds:.1f} | {kill.start} | {kill.there} |" for n, kill in enumerate(kills, 1)]
    return "\n".join(lines)
