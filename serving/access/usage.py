"""How many tokens each caller used today, in one file that the servers of a home share.

A server counts in memory and writes what it added once a second: the file is replaced as a whole, so a kill costs the
last second and never the day. What other servers added is seen with the same step.
"""

import logging
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import Field

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.io import PRIVATE_MODE, disk_errors, read_model, sole_writer, to_json, write_bytes
from serving.errors import UsageFileError

LOGGER = logging.getLogger("serving")
USAGE_NAME = "usage.json"
DAY_SECONDS = 86_400
HINT = "Remove it: the tokens of today are counted anew then."


class UsageDay(Contract):
    """Tokens of prompts and answers by the names of callers. day counts from 1970, in UTC."""

    day: int
    tokens: dict[str, Annotated[int, Field(ge=0)]]


def read_usage(folder: Path) -> dict[str, int]:
    """Tokens of today by caller, from the folder of what a home serves. Raises UsageFileError for a damaged file."""
    return _read(folder / USAGE_NAME, today())


def today() -> int:
    """The day in UTC, counted from 1970."""
    return int(time.time()) // DAY_SECONDS


def seconds_left() -> int:
    """Until the next day begins."""
    return DAY_SECONDS - int(time.time()) % DAY_SECONDS


class DayTokens:
    """The count as a server keeps it. path None: in memory alone. save may run in another thread than the rest."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._day = today()
        self._saved: Counter[str] = Counter(_read(path, self._day)) if path else Counter()
        self._saving: Counter[str] = Counter()
        self._added: Counter[str] = Counter()
        self._told = ""

    def used(self, name: str) -> int:
        """Tokens of the caller today."""
        with self._lock:
            self._turn()
            return self._saved[name] + self._saving[name] + self._added[name]

    def add(self, name: str, num_tokens: int) -> None:
        """Count tokens of the caller."""
        with self._lock:
            self._turn()
            self._added[name] += num_tokens

    def save(self) -> None:
        """Write what was added, and learn what other servers wrote. What cannot be written now waits for next time."""
        with self._lock:
            self._turn()
            day, self._saving, self._added = self._day, self._added, Counter()
        try:
            saved = self._merge(day)
        except (OSError, InputError, MachineError) as error:
            self._tell(str(error))
            saved = None
        with self._lock:
            if day == self._day:
                if saved is None:
                    self._added += self._saving
                else:
                    self._saved, self._told = saved, ""
            self._saving = Counter()

    def _merge(self, day: int) -> Counter[str]:
        if self._path is None:
            return self._saved + self._saving
        if not self._saving:
            return Counter(_read(self._path, day))
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        busy = MachineError(f"Another server writes {self._path}.", "It is tried again.")
        with sole_writer(self._path.with_suffix(".lock"), busy):
            merged = Counter(_read(self._path, day)) + self._saving
            write_bytes(self._path, to_json(UsageDay(day=day, tokens=merged)).encode(), mode=PRIVATE_MODE)
        return merged

    def _turn(self) -> None:
        if self._day != (day := today()):
            self._day, self._saved, self._saving, self._added = day, Counter(), Counter(), Counter()

    def _tell(self, problem: str) -> None:
        if problem != self._told:
            LOGGER.error("tokens are counted in memory alone: %s", problem)
        self._told = problem


def _read(path: Path, day: int) -> dict[str, int]:
    if not path.exists():
        return {}
    found = read_model(path, UsageDay, error=UsageFileError, hint=HINT)
    return found.tokens if found.day == day else {}
