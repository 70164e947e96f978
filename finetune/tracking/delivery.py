"""Hand journal entries to the tracking store: in batches, each once, and never in the way of training."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from finetune.contracts.errors import PlatformError
from finetune.terminal.output import note
from finetune.tracking.jsonl import Entry

PACE_SECONDS = 2.0
RETRY_SECONDS = 15.0
# the store refuses more values than this in one call
BATCH_VALUES = 1000


class EntryRefused(Exception):
    """The store will never take this entry: it is left out, so that what follows can pass."""


class Store(Protocol):
    """Where entries end up. Each method may raise anything when the store cannot be used."""

    def ready(self, wait_seconds: float) -> None:
        """Raise unless the store can be written within wait_seconds."""
        ...

    def apply(self, entries: Sequence[Entry]) -> None:
        """Record entries; doing it again changes nothing. Raises EntryRefused for what can never be recorded."""
        ...

    def confirm(self, number: int) -> None:
        """Remember in the store that every entry up to number is there."""
        ...


class Delivery:
    """A queue in front of a store. A failure is told once, and tried again later."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._pending: deque[Entry] = deque()
        self._not_before = 0.0
        self._failed = False

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, *entries: Entry) -> None:
        """Queue entries; nothing is sent yet."""
        self._pending.extend(entries)

    def deliver(self, *, now: bool = False, wait_seconds: float = 0.2) -> bool:
        """Send what is queued, unless it is too early for it (now: always). Returns whether nothing is left.

        wait_seconds bounds how long a store that another process holds is waited for.
        """
        if not self._pending or (not now and self._clock() < self._not_before):
            return not self._pending
        try:
            self._store.ready(wait_seconds)
            self._send()
        except Exception as error:
            self._not_before = self._clock() + RETRY_SECONDS
            self._tell(error)
            return False
        self._not_before = self._clock() + PACE_SECONDS
        if self._failed:
            note("The tracking store is back; the run's record is complete again.")
            self._failed = False
        return True

    def _send(self) -> None:
        for batch in batches(list(self._pending)):
            self._apply(batch)
            self._store.confirm(batch[-1].number)
            for _ in batch:
                self._pending.popleft()

    def _apply(self, batch: Sequence[Entry]) -> None:
        try:
            self._store.apply(batch)
        except EntryRefused as error:
            if len(batch) == 1:
                note(f"Not in the tracking store, only in the journal: {batch[0].kind}, {error}")
                return
            # one bad entry must not keep the others of its call out
            for entry in batch:
                self._apply([entry])

    def _tell(self, error: Exception) -> None:
        if self._failed:
            return
        self._failed = True
        text = error.message if isinstance(error, PlatformError) else f"{type(error).__name__}: {_first_line(error)}"
        note(f"The tracking store failed, the run goes on and its journal keeps every point ({text})")


def batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Runs of metrics entries joined up to BATCH_VALUES values; any other entry alone."""
    batch: list[Entry] = []
    values = 0
    for entry in entries:
        size = len(entry.points())
        if batch and (entry.kind != "metrics" or values + size > BATCH_VALUES):
            yield batch
            batch, values = [], 0
        if entry.kind == "metrics":
            batch.append(entry)
            values += size
        else:
            yield [entry]
    if batch:
        yield batch


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
