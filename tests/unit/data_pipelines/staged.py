"""What tests of executors have done by workers, who import it by its place."""

import contextlib
import os
import signal
import socket

from finetune.contracts.errors import DatasetError

PLACE = "tests.unit.data_pipelines.staged"


def write_pid(stage_folder, number, target):
    """Tell who did it, and that it was done."""
    with (stage_folder / "done").open("a") as stream:
        stream.write(f"{number}\n")
    target.write_text(str(os.getpid()))


def kill_second(stage_folder, number, target):
    """Die at the second task, as when the machine has no memory left."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    write_pid(stage_folder, number, target)


def fail_second(stage_folder, number, target):
    """Find something wrong with the second task."""
    if number == 1:
        raise DatasetError("The second is bad.", "Leave it out.")
    write_pid(stage_folder, number, target)


def write_nothing(stage_folder, number, target):
    """End without a result."""


def call_out(stage_folder, number, target):
    """Try to leave at the second task, as a library does that keeps quiet about it."""
    if number == 1:
        with contextlib.suppress(Exception):
            socket.create_connection(("192.0.2.1", 80))
    write_pid(stage_folder, number, target)
