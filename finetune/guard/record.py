"""What tried to leave: each refused attempt with who made it, in a journal that a command's processes share.

The command names the journal in an environment variable, so that processes which it starts find it. A process that runs
as the same user could take lines away: this is a record of what libraries do, and what holds is the jail.
"""

import atexit
import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

JOURNAL_VARIABLE = "FINETUNE_EGRESS_JOURNAL"
# a library that tries for ever must not fill the disk
MAX_ATTEMPTS = 1000
STACK_LINES = 12
ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(f"{ROOT / package}{os.sep}" for package in ("finetune", "data_pipelines", "serving"))
STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
INSTALLED = ("site-packages/", "dist-packages/")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One refused attempt: the audit event, where it went, by what, when (seconds since 1970) and in which process.

    library is the package that our code had called, one of our own for a call of its own, "python" for neither. stack
    has the innermost lines last; of the standard library's only the last is kept.
    """

    event: str
    address: str
    library: str
    at: float
    process: int
    stack: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was under the guard; program is its name, with that of a worker of it."""

    pid: int
    parent: int
    program: str


@dataclass(frozen=True, slots=True)
class Untold:
    """What the journal holds since it was last told of: attempts, and the other processes that have joined it."""

    attempts: tuple[Attempt, ...]
    processes: tuple[Process, ...]


_STATE = {"attempts": 0, "owner": 0}
# of a process without a journal, or whose journal cannot be written
_MEMORY: list[str] = []
# the journal that this process has opened
_OPENED: list[str] = []


def open_journal() -> None:
    """Begin a journal for this process and all that it starts; the file appears with its first line, and goes with us.

    What nobody has told of by then is told on stderr.
    """
    if _STATE["owner"] != os.getpid():
        atexit.register(_end)
    else:
        _remove()
    _STATE["owner"] = os.getpid()
    path = os.path.join(tempfile.gettempdir(), f"finetune-egress-{os.urandom(16).hex()}.jsonl")
    _OPENED[:] = [path]
    use_journal(path)


def journal_path() -> str | None:
    """The journal of this process, None for none, to be handed to processes that do not have our environment."""
    return os.environ.get(JOURNAL_VARIABLE)


def use_journal(path: str | None) -> None:
    """Write to the journal at path from now on, which another process has opened; None: keep it in memory."""
    os.environ.pop(JOURNAL_VARIABLE, None)
    if path is not None:
        os.environ[JOURNAL_VARIABLE] = path


def adopt_journal(path: Path) -> None:
    """Take the lines of a journal that was written elsewhere into this process's, and remove it."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            _append(json.loads(line))
    path.unlink(missing_ok=True)


def join_journal() -> None:
    """Say in the journal of the process that started this one that this one is under the guard too."""
    if journal_path() is not None and _STATE["owner"] != os.getpid():
        _append({"process": asdict(this_process())})


def this_process() -> Process:
    """What the record says of this process."""
    program = Path(sys.argv[0] or sys.executable)
    name = program.parent.name if program.name == "__main__.py" else program.name
    pool = sys.modules.get("multiprocessing.process")
    worker = pool.current_process().name if pool else "MainProcess"
    return Process(os.getpid(), os.getppid(), name if worker == "MainProcess" else f"{name}, {worker}")


def note_attempt(event: str, address: object, frame: FrameType | None) -> Attempt:
    """Record an attempt that frame made."""
    frames = _frames(frame)
    attempt = Attempt(
        event=event,
        address=_place(address),
        library=_library(frames),
        at=round(time.time(), 3),
        process=os.getpid(),
        stack=_shown(frames),
    )
    _STATE["attempts"] += 1
    if _STATE["attempts"] <= MAX_ATTEMPTS:
        _append({"attempt": asdict(attempt)})
    return attempt


def read_untold() -> Untold:
    """What has not been told of yet, of all processes of the journal, in the order in which it was written."""
    journal, memory = _untold(_journal_lines()), _untold(_MEMORY)
    return Untold((*journal.attempts, *memory.attempts), (*journal.processes, *memory.processes))


def _untold(lines: list[str]) -> Untold:
    attempts: list[Attempt] = []
    processes: list[Process] = []
    for line in lines:
        document = json.loads(line)
        if "told" in document:
            attempts, processes = [], []
        elif "process" in document:
            processes.append(Process(**document["process"]))
        else:
            found = document["attempt"]
            attempts.append(Attempt(**{**found, "stack": tuple(found["stack"])}))
    return Untold(tuple(attempts), tuple(processes))


def mark_told() -> None:
    """Say that what the journal holds until now has been told of."""
    _append({"told": os.getpid()})


def _append(document: dict[str, object]) -> None:
    line = json.dumps(document) + "\n"
    path = journal_path()
    try:
        if path is None:
            raise FileNotFoundError
        # one write of O_APPEND: lines of several processes do not mix
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            os.write(handle, line.encode("utf-8"))
        finally:
            os.close(handle)
    except OSError:
        _MEMORY.append(line)


def _journal_lines() -> list[str]:
    path = journal_path()
    try:
        return Path(path).read_text(encoding="utf-8").splitlines() if path else []
    except OSError:
        return []


def _frames(frame: FrameType | None) -> list[tuple[str, int, str]]:
    """(file, line, function) of a stack, innermost last."""
    found = []
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return found[::-1]


def _shown(frames: list[tuple[str, int, str]]) -> tuple[str, ...]:
    """The lines of a stack that tell something."""
    told = [frame for frame in frames[:-1] if _package(frame[0]) or not frame[0].startswith(STANDARD_LIBRARY)]
    return tuple(f"{_short(name)}:{line} {function}" for name, line, function in [*told, *frames[-1:]][-STACK_LINES:])


def _place(address: object) -> str:
    """A socket address as a person writes it; a name or an address alone as it is."""
    if not isinstance(address, tuple):
        return str(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _library(frames: list[tuple[str, int, str]]) -> str:
    names = [name for name, _, _ in frames]
    own = max((place for place, name in enumerate(names) if name.startswith(OURS)), default=-1)
    for name in names[own + 1 :]:
        if package := _package(name):
            return package
    if own >= 0:
        return Path(names[own]).relative_to(ROOT).parts[0]
    return "python"


def _package(name: str) -> str:
    """The installed package that a file belongs to; "" for none."""
    for folder in INSTALLED:
        if folder in name:
            return name.rsplit(folder, 1)[1].partition("/")[0].removesuffix(".py")
    return ""


def _short(name: str) -> str:
    """A file's name without what tells of this machine."""
    for folder in INSTALLED:
        if folder in name:
            return name.rsplit(folder, 1)[1]
    for prefix in (f"{ROOT}{os.sep}", STANDARD_LIBRARY):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return os.path.basename(name)


def _end() -> None:
    # a forked child has our exit handlers too
    if _STATE["owner"] != os.getpid():
        return
    try:
        untold = read_untold().attempts
        if untold:
            first = untold[0]
            sys.stderr.write(
                f"Something tried to leave this machine and was refused, {len(untold)} times in all; the first was "
                f"{first.library}, to {first.address}.\n"
            )
    finally:
        _remove()


def _remove() -> None:
    _MEMORY.clear()
    for path in _OPENED:
        Path(path).unlink(missing_ok=True)
