"""The end of a chain of the log, where a server appends."""

import contextlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from finetune.contracts.chain import Entry, next_entry
from finetune.contracts.io import disk_errors, sync_folder
from serving.access.audit_files import AuditEvent, body_of, entries_of, file_name, series_in

LOGGER = logging.getLogger("serving")
DAY_SECONDS = 86_400


@dataclass(slots=True)
class Tail:
    """The file at the end of a chain; last is the newest entry of all, day the one (UTC) in which it was begun.

    num_bytes are those of whole entries; is_torn: more may lie behind them.
    """

    folder: Path
    series: str
    path: Path | None
    last: Entry | None
    day: int
    num_bytes: int
    is_torn: bool = False

    @classmethod
    def newest(cls, folder: Path, series: str) -> "Tail":
        """The one that is there, without the torn end of a killed write. Raises RunError when it was altered."""
        files = series_in(folder).get(series, [])
        if not files:
            return cls(folder, series, None, None, 0, 0)
        path, last = files[-1], None
        for entry in entries_of(files[-1:]):
            last = entry
        if last is None and len(files) > 1:
            # a file that was begun and not written
            path.unlink()
            return cls.newest(folder, series)
        whole = path.read_bytes().rfind(b"\n") + 1
        found = cls(folder, series, path, last, last.at // DAY_SECONDS if last else 0, whole)
        found._cut()
        return found

    def following(self, max_bytes: int) -> "Tail":
        """Itself, or a new one when it is full or of another day."""
        day = int(time.time()) // DAY_SECONDS
        if self.path and self.num_bytes < max_bytes and self.day == day:
            return self
        first = self.last.sequence + 1 if self.last else 1
        return Tail(self.folder, self.series, self.folder / file_name(self.series, first), self.last, day, 0)

    def append(self, batch: list[tuple[str, AuditEvent]]) -> None:
        """Write entries and sync them; after an error the file is as it was."""
        assert self.path
        last, lines = self.last, bytearray()
        for kind, event in batch:
            last = next_entry(last, kind, body_of(event))
            lines += last.model_dump_json().encode() + b"\n"
        num_bytes = len(lines)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(descriptor, "wb", buffering=0) as stream:
            if self.is_torn:
                os.ftruncate(descriptor, self.num_bytes)
            self.is_torn = True
            try:
                while lines:
                    # a disk that is nearly full takes less than it is given
                    del lines[: stream.write(lines)]
                os.fsync(descriptor)
                if self.num_bytes == 0:
                    sync_folder(self.folder)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, self.num_bytes)
                raise
            self.is_torn = False
        self.last, self.num_bytes = last, self.num_bytes + num_bytes

    def _cut(self) -> None:
        assert self.path
        torn = self.path.stat().st_size - self.num_bytes
        if torn:
            with disk_errors(self.path):
                os.truncate(self.path, self.num_bytes)
            LOGGER.warning("%s: cut off %d bytes of an unfinished entry, the write of a killed server", self.path, torn)
