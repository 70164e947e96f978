"""The one way to run code that nobody has read: a command in namespaces of its own, or not at all.

Jail.open() tries attacks on the jail that must fail and programs that must succeed; no jail, no execution. What the
jail is made of: the mounts (mounts.py), the limits, and the watch over it (watch.py).
"""

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune.contracts.errors import InputError
from finetune.execution.host import Host, find_host
from finetune.execution.mounts import HOME, TREE, archive, bwrap_arguments, check_overlay, staged
from finetune.execution.watch import Watched, watch

Outcome = Literal["exited", "timed out", "output limit", "infrastructure"]
# Written to stderr inside, before any code of the tree has run and after everything of ours has: what lacks it at the
# start never came to run, and nothing that ran can take it away.
READY = "jail is ready\n"
INSIDE = 'command -v -- "$0" >/dev/null || { echo "$0 is not visible in the jail" >&2; exit 127; }; '
INSIDE += f'printf \'{READY[:-1]}\\n\' >&2; exec "$0" "$@"'
KILLED = 128 + 9
# the same on every machine, so that a test's outcome depends on the code alone
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": str(HOME),
    "TMPDIR": "/tmp",  # noqa: S108 - the jail's own
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may take. output_bytes holds for stdout and for stderr, each.

    memory_bytes is for each process's own memory and for the whole jail. disk_bytes is all that can be written, and the
    largest file; it lies in memory. max_processes counts threads as well.
    """

    timeout_seconds: float = 60.0
    memory_bytes: int = 2 << 30
    max_processes: int = 64
    max_open_files: int = 256
    output_bytes: int = 1 << 20
    disk_bytes: int = 256 << 20


# Of a repository's own tests, when tasks are mined from them and when they grade: under less at one of the two a body
# that passed there fails here, and the machine's fault would be the model's.
REPOSITORY_TESTS = Limits(memory_bytes=4 << 30, max_processes=256, output_bytes=16 << 20)


@dataclass(frozen=True, slots=True)
class JailResult:
    """What came of a command.

    outcome "infrastructure": the command never ran, note says why; it says nothing of the code. exit_code is None
    unless it exited; 128 + n after signal n. A jail that took too much memory is killed: exit code 137, with a note.
    """

    outcome: Outcome
    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    note: str = ""


class Jail:
    """A jail that was seen to hold. Threads may share one; each run is a jail of its own."""

    _opened: "Jail | None" = None
    _opening = threading.Lock()

    def __init__(self, host: Host) -> None:
        self._host = host

    @classmethod
    def open(cls) -> "Jail":
        """The jail of this process, probed once; raises MachineError naming what is missing and what to type."""
        from finetune.execution.probe import probe

        with cls._opening:
            if cls._opened is None:
                jail = cls(find_host())
                probe(jail)
                cls._opened = jail
            return cls._opened

    def run(
        self,
        command: Sequence[str],
        *,
        tree: Path,
        overlay: Mapping[str, bytes | None] = {},
        readable: Sequence[Path] = (),
        environment: Mapping[str, str] = {},
        limits: Limits = Limits(),
        writable: Sequence[str] = (),
    ) -> JailResult:
        """Run command in the tree, which is shown read-only at /repo without its .git.

        overlay replaces or adds files by their path in the tree; None hides one. readable are files and folders shown
        read-only at their own absolute paths; of the rest of the disk only the system's programs are seen. environment
        comes on top of the jail's own; nothing of this process's is passed on. writable are files of the tree of which
        the command gets copies in their place that it may rewrite; they count to its disk. Raises InputError for a
        tree, an overlay path or a readable folder that may not be shown.
        """
        readable = _shown(readable)
        if not tree.is_dir():
            raise InputError(f"{tree} is not a folder.", "Mine the tasks again.")
        check_overlay(tree, [*overlay, *writable])
        inner = [
            *bwrap_arguments(self._host, readable, {**ENVIRONMENT, **environment}, writable=writable),
            self._host.prlimit,
            f"--nproc={limits.max_processes}",
            f"--data={limits.memory_bytes}",
            f"--nofile={limits.max_open_files}",
            f"--fsize={limits.disk_bytes}",
            "--core=0",
            *["--", "/bin/sh", "-c", INSIDE, *command],
        ]
        outer = staged(self._host, inner, tree=tree.resolve(), readable=readable, disk_bytes=limits.disk_bytes)
        with archive(tree, overlay, writable) as files:
            process = subprocess.Popen(
                outer,
                stdin=files,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": self._host.path},
                cwd="/",
            )
        return _result(watch(process, limits), limits)


def _shown(readable: Sequence[Path]) -> tuple[Path, ...]:
    """The absolute paths to show, parents first; refuses what would show the user's home."""
    homes = {Path(os.path.expanduser("~")).resolve(), Path("/root"), Path("/home"), Path("/etc"), Path("/proc")}
    for path in readable:
        real = path.resolve()
        if any(real == home or real in home.parents for home in homes):
            raise InputError(f"{path} may not be shown to code under test.", "Name the folder of the toolchain alone.")
        if not path.is_absolute() or not path.exists():
            raise InputError(f"{path} is not an absolute path of something that exists.", "Correct the toolchain.")
    return tuple(sorted(set(readable)))


def _result(seen: Watched, limits: Limits) -> JailResult:
    stderr = seen.stderr.removeprefix(READY)
    outcome, exit_code, note = _ending(seen, limits, ready=seen.stderr.startswith(READY))
    return JailResult(outcome, exit_code, seen.stdout, stderr, seen.seconds, note)


def _ending(seen: Watched, limits: Limits, *, ready: bool) -> tuple[Outcome, int | None, str]:
    if not ready:
        return "infrastructure", None, seen.stderr.strip() or f"the jail ended with {seen.exit_code}"
    if seen.stopped:
        return _STOPPED[seen.stopped](limits)
    if seen.exit_code < 0:
        return "infrastructure", None, f"the jail itself was killed by signal {-seen.exit_code}"
    return "exited", seen.exit_code, ""


_STOPPED: Mapping[str, Callable[[Limits], tuple[Outcome, int | None, str]]] = {
    "time": lambda limits: ("timed out", None, f"stopped after {limits.timeout_seconds:g} s"),
    "output": lambda limits: ("output limit", None, f"wrote more than {limits.output_bytes:,} bytes"),
    "memory": lambda limits: ("exited", KILLED, f"stopped: more than {limits.memory_bytes:,} bytes of memory in all"),
}


__all__ = ["TREE", "Jail", "JailResult", "Limits", "Outcome"]
