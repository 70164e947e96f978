"""Reads what a jail writes, up to a limit, and ends it at its limit of time, output or memory."""

import os
import selectors
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

POLL_SECONDS = 0.05
CHUNK_BYTES = 1 << 16
# killed processes close their ends at once; a kernel busy with freeing memory may need a moment
DRAIN_SECONDS = 5.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
Stop = Literal["", "time", "output", "memory"]


class Bounds(Protocol):
    """The limits that are kept from outside."""

    @property
    def timeout_seconds(self) -> float: ...
    @property
    def output_bytes(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen: stopped names the limit at which it was ended, "" if it ended by itself."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float
    stopped: Stop


def watch(process: "subprocess.Popen[bytes]", bounds: Bounds) -> Watched:
    """Read until the jail has ended; kill it at a limit. Always leaves it dead, whatever is raised here."""
    began = time.monotonic()
    assert process.stdout is not None and process.stderr is not None
    kept: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    try:
        stopped = _read(process, kept, bounds, began + bounds.timeout_seconds)
    finally:
        # kills bubblewrap, with which the whole process namespace dies
        process.kill()
        exit_code = process.wait()
        out, err = (bytes(text[: bounds.output_bytes]).decode(errors="replace") for text in kept.values())
        for stream in kept:
            stream.close()
    return Watched(exit_code, out, err, time.monotonic() - began, stopped)


def _read(
    process: "subprocess.Popen[bytes]", kept: dict[IO[bytes], bytearray], bounds: Bounds, deadline: float
) -> Stop:
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        checked = time.monotonic()
        while selector.get_map():
            for key, _ in selector.select(min(POLL_SECONDS, max(deadline - time.monotonic(), 0))):
                stream = next(one for one in kept if one is key.fileobj)
                chunk = os.read(key.fd, CHUNK_BYTES)
                kept[stream] += chunk
                if not chunk:
                    selector.unregister(stream)
                if len(kept[stream]) > bounds.output_bytes:
                    return "output"
            now = time.monotonic()
            if now >= deadline:
                return "time"
            if now - checked >= POLL_SECONDS:
                checked = now
                if exceeds(process.pid, bounds.memory_bytes):
                    return "memory"
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return "time"
    return ""


def exceeds(process: int, limit: int) -> bool:
    """Whether a process and all below it hold more than limit bytes of memory.

    Resident memory, which is cheap to read, counts shared pages for each; only where that is above the limit are they
    divided among those that share them.
    """
    family = _family(process)
    return sum(map(_resident, family)) > limit and sum(map(_proportional, family)) > limit


def _family(process: int) -> list[int]:
    found = [process]
    for one in found:
        for thread in _threads(one):
            found += [int(child) for child in _text(Path(f"/proc/{one}/task/{thread}/children")).split()]
    return found


def _threads(process: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{process}/task")
    except OSError:
        return []  # it has ended


def _resident(process: int) -> int:
    fields = _text(Path(f"/proc/{process}/statm")).split()
    return int(fields[1]) * PAGE_BYTES if fields else 0


def _proportional(process: int) -> int:
    for line in _text(Path(f"/proc/{process}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return _resident(process)  # it forbids that this is read


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # it has ended
