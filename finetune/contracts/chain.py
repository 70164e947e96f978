"""An append-only record: a JSON line an entry, each naming the digest of the one before.

It shows that no line before the last one was changed, taken out, put in or moved. It does not show that lines at the
end were cut off: for that the newest digest must lie somewhere else, too (release/registry.py puts it into MLflow).
Nor does it hold against who can write the file and make the whole chain anew.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue, ValidationError

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import RunError
from finetune.contracts.evaluation import EvaluationReport
from finetune.contracts.io import digest_json, disk_errors, sync_folder

HINT = "Compare it with a copy; nothing is appended to a record that does not hold."
EVALUATED = "evaluated"
PROMOTED, ROLLED_BACK = "promoted", "rolled back"
WITHDRAWING, WITHDRAWN = "withdrawing", "withdrawn"


class Entry(Contract):
    """A line. sequence counts from 1, at is seconds since 1970, previous is "" in the first line."""

    sequence: int
    at: int
    kind: str
    body: dict[str, JsonValue]
    previous: str
    digest: str

    def text(self, key: str) -> str:
        """A value of the body as text, "" where there is none."""
        value = self.body.get(key)
        return "" if value is None else str(value)


def next_entry(before: Entry | None, kind: str, body: Mapping[str, JsonValue]) -> Entry:
    """The entry that follows before, as of now; before None: it is the first."""
    entry = Entry(
        sequence=before.sequence + 1 if before else 1,
        at=int(time.time()),
        kind=kind,
        body=dict(body),
        previous=before.digest if before else "",
        digest="",
    )
    return entry.model_copy(update={"digest": _digest_of(entry)})


def checked_entries(path: Path, lines: Iterable[bytes], *, after: Entry | None = None) -> Iterator[Entry]:
    """The entries of the lines of path, which go on after that entry; None: they begin a chain.

    Raises RunError naming a line that is wrong.
    """
    for number, line in enumerate(lines, start=1):
        try:
            entry = Entry.model_validate_json(line)
        except ValidationError as cause:
            raise RunError(f"{path}:{number}: the record is damaged: this is no entry.", HINT) from cause
        if entry.digest != _digest_of(entry):
            raise RunError(f"{path}:{number}: the record was altered: the entry does not have its own digest.", HINT)
        expected = (after.digest, after.sequence + 1) if after else ("", 1)
        if (entry.previous, entry.sequence) != expected:
            raise RunError(
                f"{path}:{number}: the record was altered: a line before it was removed, inserted or moved.", HINT
            )
        after = entry
        yield entry


@dataclass(slots=True)
class OpenChain:
    """A chain that is held by this process; entries are all that is in it."""

    path: Path
    entries: list[Entry] = field(default_factory=list)

    def append(self, kind: str, body: Mapping[str, JsonValue]) -> Entry:
        """Add an entry; it is on the disk when this returns. Raises MachineError when the disk refuses."""
        entry = next_entry(self.entries[-1] if self.entries else None, kind, body)
        with disk_errors(self.path), self.path.open("ab") as stream:
            stream.write(entry.model_dump_json().encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(self.path.parent)
        self.entries.append(entry)
        return entry


class Chain:
    """The record at path; beside it lies its lock. notice hears what was cut off after a killed write."""

    def __init__(self, path: Path, *, notice: Callable[[str], None]) -> None:
        self.path = path
        self._notice = notice

    def read(self) -> tuple[Entry, ...]:
        """All entries, checked. An unfinished last line is passed over. Raises RunError naming a line that is wrong."""
        whole, _ = self._parts()
        return tuple(_checked(self.path, whole))

    @contextmanager
    def open(self) -> Iterator[OpenChain]:
        """Wait for the record and hold it: it is checked whole, and the torn end of a killed write is cut off."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            whole, torn = self._parts()
            found = OpenChain(self.path, list(_checked(self.path, whole)))
            if torn:
                self._cut(len(whole), torn)
            yield found
        finally:
            os.close(lock)

    def _parts(self) -> tuple[bytes, bytes]:
        """Whole lines, and what follows the last end of line: the write of a killed process."""
        content = self.path.read_bytes() if self.path.exists() else b""
        end = content.rfind(b"\n") + 1
        return content[:end], content[end:]

    def _cut(self, num_bytes: int, torn: bytes) -> None:
        with disk_errors(self.path), self.path.open("r+b") as stream:
            stream.truncate(num_bytes)
            os.fsync(stream.fileno())
        self._notice(
            f"{self.path}: cut off an unfinished last line of {len(torn)} bytes, the write of a killed process."
        )


def record_evaluation(chain: Chain, report: EvaluationReport, *, digest: str) -> Entry:
    """Note that an evaluation came to this report; digest is that of its report.json."""
    body: dict[str, JsonValue] = {
        "adapter_id": report.adapter_id,
        "weights": report.adapter_digest,
        "report": digest,
        "verdict": report.verdict,
    }
    with chain.open() as record:
        return record.append(EVALUATED, body)


@dataclass(frozen=True, slots=True)
class LivePlace:
    """An alias of a registered model that points at an adapter."""

    model: str
    alias: str

    def __str__(self) -> str:
        return f"{self.model}@{self.alias}"


def live_places(entries: Iterable[Entry]) -> dict[str, tuple[LivePlace, ...]]:
    """Where adapters are live by the record, by their ids; one that is not live is not there."""
    pointed: dict[LivePlace, str] = {}
    for entry in entries:
        if entry.kind in (PROMOTED, ROLLED_BACK):
            pointed[LivePlace(entry.text("model"), entry.text("alias"))] = entry.text("adapter_id")
        elif entry.kind == WITHDRAWN:
            pointed = {place: found for place, found in pointed.items() if found != entry.text("adapter_id")}
    return {
        adapter: tuple(place for place, found in pointed.items() if found == adapter)
        for adapter in sorted(set(pointed.values()))
    }


def withdrawn_weights(entries: Iterable[Entry]) -> frozenset[str]:
    """Weights digests of the adapters that were withdrawn by the record, or were about to be."""
    return frozenset(entry.text("weights") for entry in entries if entry.kind in (WITHDRAWING, WITHDRAWN))


def _digest_of(entry: Entry) -> str:
    return digest_json(entry.model_copy(update={"digest": ""}))


def _checked(path: Path, content: bytes) -> Iterator[Entry]:
    return checked_entries(path, content.split(b"\n")[:-1])
