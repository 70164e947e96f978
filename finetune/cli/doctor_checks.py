"""What `finetune doctor` looks at, a check each: what was found, whether that will do, and what to type if not."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from finetune.contracts.errors import MachineError
from finetune.contracts.run import Home

GIB = 2**30
LEAST_PYTHON = (3, 11)
LIBRARY_SECONDS = 180.0
# the demo takes 2 GiB, and a 4-bit base of 7 billion parameters 12 while it is quantised
LEAST_MEMORY, GOOD_MEMORY = 4 * GIB, 16 * GIB
# of a run on the embedded base, and of one on a 4-bit base with its copy
LEAST_DISK, GOOD_DISK = 2 * GIB, 40 * GIB
State = Literal["ok", "weak", "missing"]


@dataclass(frozen=True, slots=True)
class Check:
    """One look. state "weak": something is left out or slow without it; "missing": no command can do without.

    next is what to type or change, "" where all is well.
    """

    name: str
    state: State
    found: str
    next: str = ""


def check_machine(home: Home, *, tell: Callable[[str], None]) -> Iterator[Check]:
    """All checks, the quick ones first; tell hears of what takes seconds before it begins."""
    yield _python()
    yield _memory()
    yield _disk(home.root)
    yield _home(home.root)
    yield _git()
    yield _store(home)
    yield _serve()
    yield _kernels()
    tell("Asking the installed libraries ...")
    yield from _libraries()
    tell("Trying the jail of tests ...")
    yield _jail()
    yield _network()


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < LEAST_PYTHON:
        return Check("Python", "missing", found, "Install Python 3.11 or newer, and this project into it.")
    return Check("Python", "ok", found)


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{total / GIB:.0f} GiB"
    if total < LEAST_MEMORY:
        return Check("memory", "missing", found, "Use a machine with 4 GiB or more.")
    if total < GOOD_MEMORY:
        return Check("memory", "weak", found, "Enough for the embedded base; larger ones need 16 GiB or more.")
    return Check("memory", "ok", found)


def _disk(home: Path) -> Check:
    free = shutil.disk_usage(_existing(home)).free
    found = f"{free / GIB:.0f} GiB free at {home}"
    if free < LEAST_DISK:
        return Check("disk", "missing", found, "Free some space, or name another folder with --home.")
    if free < GOOD_DISK:
        return Check("disk", "weak", found, "Enough for the embedded base; runs on larger ones want 40 GiB.")
    return Check("disk", "ok", found)


def _home(home: Path) -> Check:
    place = _existing(home)
    try:
        with tempfile.TemporaryFile(dir=place):
            return Check("home", "ok", f"{home} can be written")
    except OSError as error:
        return Check("home", "missing", f"{place}: {error.strerror}", "Correct its permissions, or give --home DIR.")


def _existing(folder: Path) -> Path:
    """folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _git() -> Check:
    program = shutil.which("git")
    if program is None:
        return Check("git", "missing", "not found", "Install it, on Debian and Ubuntu: apt-get install -y git")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return Check("git", "ok", done.stdout.strip().removeprefix("git version "))


def _store(home: Home) -> Check:
    from finetune.tracking.home_store import check_store

    if not home.tracking_database.exists():
        return Check("MLflow store", "ok", "none yet; the first run makes it")
    try:
        check_store(home, wait_seconds=1.0)
    except MachineError as error:
        return Check("MLflow store", "missing", error.message, error.hint)
    return Check("MLflow store", "ok", f"{home.tracking_database} can be written")


def _serve() -> Check:
    from serving.cli import missing_libraries

    if missing := missing_libraries():
        return Check("serving", "weak", f"not installed: {', '.join(missing)}", 'pip install "finetune[serve]"')
    return Check("serving", "ok", "all its packages are installed")


def _kernels() -> Check:
    if find_spec("kernels") is not None:
        return Check("hub kernels", "missing", "the package kernels is installed", "pip uninstall kernels")
    return Check("hub kernels", "ok", "the package kernels, which fetches compiled code, is not installed")


def _libraries() -> Iterator[Check]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "finetune.cli.installed"],
            capture_output=True,
            text=True,
            timeout=LIBRARY_SECONDS,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        yield Check("libraries", "missing", f"no answer in {LIBRARY_SECONDS:.0f} s", "Try again when less runs here.")
        return
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        yield Check("libraries", "missing", last, "Install the project again: pip install finetune")
        return
    yield _device(found["torch"])
    online: list[str] = found["online"]
    if online:
        yield Check("offline switches", "missing", f"no effect in {', '.join(online)}", "Report this.")
    else:
        yield Check("offline switches", "ok", "huggingface_hub, transformers, datasets and mlflow obey them")


def _device(torch: dict[str, Any]) -> Check:
    if torch["card"] is None:
        found = f"torch {torch['version']}, no GPU"
        return Check(
            "device", "weak", found, "On a CPU only the embedded base is quick; see that `nvidia-smi` lists one."
        )
    found = f"torch {torch['version']}, {torch['card']}, {torch['bytes'] / GIB:.0f} GiB"
    if not torch["bfloat16"]:
        return Check("device", "missing", f"{found}, no bfloat16", "Use a card of the Ampere generation or later.")
    return Check("device", "ok", found)


def _jail() -> Check:
    from finetune.execution.jail import Jail

    try:
        Jail.open()
    except MachineError as error:
        return Check("jail of tests", "weak", error.message, error.hint)
    return Check("jail of tests", "ok", "holds against every attack that was tried")


def _network() -> Check:
    from finetune.guard.jail import ALLOW_NAMESPACES, JailMode, Needs, missing
    from finetune.guard.layers import Layer, holding_layers

    reason = missing(JailMode.NAMESPACE, Needs())
    if not reason:
        return Check("jail of jobs", "ok", "a network of its own, with loopback alone")
    if Layer.NETWORK_NAMESPACE in holding_layers():
        return Check("jail of jobs", "ok", "there is no network here but loopback")
    found = "none, so Python's own calls alone are refused"
    if not missing(JailMode.SECCOMP, Needs()):
        found = "a filter of system calls, under which there is no TCP at all"
    return Check("jail of jobs", "weak", f"{found} ({reason})", ALLOW_NAMESPACES)
