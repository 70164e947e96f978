"""Progress of long work: a bar with time left on a terminal, plain lines at most every few seconds when piped."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

from finetune.terminal.output import shown

LINE_INTERVAL_SECONDS = 10.0
BAR_INTERVAL_SECONDS = 0.1
BAR_WIDTH = 24
SHOWN_BYTES = 10**9


class Progress:
    """A context manager around one piece of work.

    total is the number of steps, None when it is not known. Nothing is printed on stdout.
    """

    def __init__(self, label: str, total: int | None, *, stream: TextIO | None = None, start_at: int = 0) -> None:
        self.label = label
        self.total = total
        self.done = start_at
        self._start_at = start_at
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._detail = ""

    def __enter__(self) -> Self:
        self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        if self._live:
            self._stream.write("\n")
            self._stream.flush()

    def update(self, done: int, detail: str = "") -> None:
        """Set how many steps are done; detail is shown beside, for example "loss 1.92  2,310 tokens/s"."""
        self.done = done
        self._detail = detail or self._detail
        interval = BAR_INTERVAL_SECONDS if self._live else LINE_INTERVAL_SECONDS
        if time.monotonic() - self._shown_at >= interval:
            self._show()

    def tell(self, text: str) -> None:
        """Print a line that stays, above the bar where there is one."""
        self._stream.write(("\r\x1b[K" if self._live else "") + shown(text) + "\n")
        self._show()

    def advance(self, steps: int = 1, detail: str = "") -> None:
        """update by a number of steps more."""
        self.update(self.done + steps, detail)

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        if self._live:
            self._stream.write("\r\x1b[K" + self._line(bar=True))
        else:
            self._stream.write(self._line(bar=False) + "\n")
        self._stream.flush()

    def _line(self, *, bar: bool) -> str:
        parts = [self.label]
        if self.total:
            if bar:
                filled = round(BAR_WIDTH * min(1.0, self.done / self.total))
                parts.append("█" * filled + "░" * (BAR_WIDTH - filled))
            parts.append(f"{self.done:,}/{self.total:,}")
        else:
            parts.append(f"{self.done:,}")
        if self._detail:
            parts.append(self._detail)
        parts.append(self._time_text())
        return "  ".join(parts)

    def _time_text(self) -> str:
        elapsed = time.monotonic() - self._started
        fresh = self.done - self._start_at
        if self.total and fresh > 0 and self.done < self.total:
            return f"{format_seconds(elapsed / fresh * (self.total - self.done))} left"
        return format_seconds(elapsed)


@contextmanager
def byte_progress(label: str, total: int, *, least: int = SHOWN_BYTES) -> Iterator[Callable[[int], None]]:
    """Progress of reading total bytes, in MB; yields what takes the number of bytes read since the last call.

    Nothing is shown below least bytes, which are read in a moment.
    """
    if total < least:
        yield lambda count: None
        return
    done = 0
    with Progress(f"{label}, MB", round(total / 1e6)) as progress:

        def seen(count: int) -> None:
            nonlocal done
            done += count
            progress.update(round(done / 1e6))

        yield seen


def format_seconds(seconds: float) -> str:
    """Seconds as a person writes them: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
