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


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt the block as Ctrl-C does, so that it can end what it started.

    SIGHUP stays ignored where it is: `nohup` means that the command outlives its terminal.
    """
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    with on_signals(numbers, _interrupt):
        yield


def _interrupt() -> None:
    raise KeyboardInterrupt
