"""Signals that ask a command to end, handled for the length of a block."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_signals(numbers: Sequence[signal.Signals], act: Callable[[], object]) -> Iterator[None]:
    """Call act at each signal of numbers while the block runs, even where a shell has it ignored for a background job.

    What stood before is put back. Outside the main thread nothing is caught: Python allows it there alone.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        act()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
