"""Run a few lines in a jail, as a process of their own: nothing leaves one again."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[4]
ENTER = """
import json, os, signal, socket, subprocess, sys
from finetune.guard.endpoint import Endpoint
from finetune.guard.jail import JailMode, Needs, arm, enter
from finetune.guard.layers import holding_layers
arm()
"""
# a user namespace in which no other can be made, as some machines are set up
FORBIDDEN = ["unshare", "--user", "--map-root-user", "sh", "-c"]
FORBIDDEN += ['echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh"]


def run(code: str, *words: str, before: Sequence[str] = (), **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run code after the imports of ENTER; before are words that start the command line."""
    command = [*before, sys.executable, "-c", ENTER + code, *words]
    options = {"capture_output": True, "text": True, "cwd": ROOT, "timeout": 60, **options}
    return subprocess.run(command, check=False, **options)


def start(code: str) -> "subprocess.Popen[str]":
    """Run code as `run` does, with pipes, and do not wait."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", ENTER + code], text=True, cwd=ROOT, **pipes)
