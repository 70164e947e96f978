"""Ctrl-C during training: the first stops after the step at hand, with a checkpoint; the second stops at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from finetune.terminal.output import note
from finetune.terminal.signals import on_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.requested = False

    def ask(self) -> None:
        """Ask once; asking again raises KeyboardInterrupt."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        note("\nStopping after this step, with a checkpoint. Press Ctrl-C again to stop at once.")


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request while the block runs. Outside the main thread nothing is caught."""
    stop = StopRequest()
    with on_signals(SIGNALS, stop.ask):
        yield stop
