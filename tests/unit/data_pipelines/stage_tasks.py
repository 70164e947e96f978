"""Tasks for tests of executors; workers import this file from its folder."""

import contextlib
import os
import socket
import subprocess
import time

from finetune.contracts.errors import DatasetError


def write(stage_folder, number, target):
    """Do what a task should."""
    target.write_text(str(number))


def refuse(stage_folder, number, target):
    """Fail as a task does that meets bad data."""
    if number == 1:
        raise DatasetError("Row 7 is damaged.", "Make it anew.")
    write(stage_folder, number, target)


def divide(stage_folder, number, target):
    """Fail as a defect does."""
    if number == 1:
        secret = "hunter2-never-shown"
        len(secret) / 0
    write(stage_folder, number, target)


def die(stage_folder, number, target):
    """End as a task does that the kernel kills."""
    if number == 1:
        os.kill(os.getpid(), 9)
    write(stage_folder, number, target)


def sleep(stage_folder, number, target):
    """Be at work for long, with a child that waits for this process."""
    subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    (stage_folder / f"at-work-{number}").touch()
    time.sleep(600)


def call_out(stage_folder, number, target):
    """Try to leave at the second task, as a library does that keeps quiet about it."""
    if number == 1:
        with contextlib.suppress(Exception):
            socket.create_connection(("192.0.2.1", 80))
    write(stage_folder, number, target)
