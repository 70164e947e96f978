"""The journal of a run: every tracked point as one JSON line, on disk before the tracking store sees it."""

import fcntl
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, cast

from pydantic import JsonValue

from finetune.contracts.errors import MachineError
from finetune.contracts.io import disk_errors

Kind = Literal[
    "start", "opened", "dataset", "metrics", "artifact", "tags", "describe", "register", "finish", "delivered"
]
TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class Entry:
    """One line. number counts from 1 in a journal; at_ms is milliseconds since 1970, UTC; body depends on kind."""

    number: int
    at_ms: int
    kind: Kind
    body: Mapping[str, JsonValue]

    def points(self) -> list[tuple[str, int, float]]:
        """(name, step, value) of a metrics entry; nothing of any other kind."""
        values = self.body.get("values")
        if self.kind != "metrics" or not isinstance(values, dict):
            return []
        step = int(cast(int, self.body["step"]))
        return [(name, step, float(cast(float, value))) for name, value in values.items()]


class Journal:
    """An append-only file that one process at a time may write.

    A line that a crash cut short was never acknowledged, so opening drops it.
    """

    def __init__(self, path: Path) -> None:
        """Open path for appending. Raises MachineError when the disk refuses or another process writes this run."""
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a+b")
            try:
                _lock(self._stream.fileno(), path)
                content = path.read_bytes()
                self._stream.truncate(content.rfind(b"\n") + 1)
            except BaseException:
                self._stream.close()
                raise
        self.entries = parse(content)
        self._number = max((entry.number for entry in self.entries), default=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, kind: Kind, body: Mapping[str, JsonValue]) -> tuple[Entry, OSError | None]:
        """Write one line and hand it to the system; the error is returned, since a full disk must not stop training."""
        self._number += 1
        entry = Entry(self._number, time.time_ns() // 1_000_000, kind, body)
        line = json.dumps(_document(entry), ensure_ascii=False, allow_nan=False)
        try:
            self._stream.write(line.encode("utf-8") + b"\n")
            self._stream.flush()
        except OSError as error:
            return entry, error
        return entry, None

    def sync(self) -> None:
        """Force what was written to the disk; a disk that refuses leaves it with the system."""
        try:
            os.fsync(self._stream.fileno())
        except OSError:
            return

    def close(self) -> None:
        """Give the file back to other processes."""
        try:
            self._stream.close()
        except OSError:
            return


def parse(content: bytes) -> list[Entry]:
    """The whole lines of a journal, in order; a line that is no entry is left out."""
    entries = []
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        try:
            document = json.loads(line)
            entries.append(
                Entry(int(document["line"]), int(document["at_ms"]), cast(Kind, document["kind"]), document["body"])
            )
        except (ValueError, KeyError, TypeError):
            continue
    return entries


def last_kind(path: Path) -> Kind | None:
    """Kind of the last whole line, read from the file's end alone; None for a journal with no entry there."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - TAIL_BYTES))
        entries = parse(stream.read())
    return entries[-1].kind if entries else None


def to_number(value: float) -> JsonValue:
    """A float in six significant digits as JSON allows it; nan and infinities become text that float() reads back."""
    return float(f"{value:.6g}") if math.isfinite(value) else str(float(value))


def _document(entry: Entry) -> dict[str, JsonValue]:
    return {"line": entry.number, "at_ms": entry.at_ms, "kind": entry.kind, "body": dict(entry.body)}


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise MachineError(
            f"Another process is writing the run whose journal is {path}.", "Wait until it ends, or stop it first."
        ) from error
