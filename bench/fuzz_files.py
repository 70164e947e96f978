"""Recipes, pipelines, gates and rules of access and trust that were made wrong, through the commands that read them.

Each command must end with exit code 0, 2, 3 or 4 and a message that can be shown on a terminal, in seconds and in
little memory, and write nothing beside its home.
Run: .venv/bin/python -m bench.fuzz_files [--number 1000] [--seed 0] [--processes 50]
"""

import argparse
import contextlib
import io
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.mangle import TEXTS, mangled, special_files

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {0, 2, 3, 4}
MAX_SECONDS = 5.0
MAX_SHOWN = 64 << 10
MAX_GROWTH_BYTES = 512 << 20
IDENTITY = b"""issuer: https://login.corp.example/realms/dev
audience: finetune
jwks_url: https://login.corp.example/keys
algorithms: [RS256, ES256]
leeway_seconds: 30
groups_claim: groups
rules:
  - {claim: groups, equals: developers, scopes: [infer], adapters: ['shop*'], groups: [payments]}
requests_per_minute: 60
"""
NAMES = b"""names:
  - {name: 'plans*', groups: [board, internal]}
  - {name: 'old-?', groups: []}
  - {name: '*', groups: [internal]}
"""
TRUST = b"""require_signature: false
keys: []
revoked_keys: [0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef]
revoked_adapters: []
"""
# an option, or the key whose value names something that is not there, says where it is as well as the file does
PLACES = ("--set", "--sweep", "base.path", "data.dataset", "of that source", "repository")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
KEYS = (
    "lora.rank",
    "train.learning_rate",
    "data.dataset",
    "base.path",
    "data.tasks.infill",
    "lora.targets",
    "train",
    "",
    "a",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A command line that ended: its exit code, None where time was up, what it showed, and its processor time."""

    words: tuple[str, ...]
    code: int | None
    shown: str
    seconds: float

    def problem(self, file: Path) -> str | None:
        """What is wrong with how it ended; None: nothing."""
        if self.code is None or self.seconds > MAX_SECONDS:
            return f"time was up, or {self.seconds:.1f} s of it were taken"
        if self.code not in ALLOWED:
            return f"exit code {self.code}"
        if "Traceback" in self.shown or "This is a bug" in self.shown:
            return "a traceback"
        if self.code == 3 and not any(name in self.shown for name in (file.name, *PLACES)):
            return "the file is not named"
        if any(not sign.isprintable() and sign not in "\n\t" for sign in self.shown):
            return "signs that steer a terminal"
        return f"{len(self.shown):,} characters shown" if len(self.shown) > MAX_SHOWN else None


@dataclass
class Findings:
    """Exit codes by kind of file, and what should not have been."""

    codes: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, kind: str, done: str, file: Path, ended: Ended) -> None:
        """Count a command, and keep what is wrong with it."""
        self.codes[kind, ended.code] += 1
        problem = ended.problem(file)
        if problem:
            said = ended.shown[-600:].encode("unicode_escape").decode()
            self.problems.append(f"{kind}: {done}: {' '.join(ended.words)[:300]}: {problem}: {said}")


class TimeIsUpError(BaseException):
    """No Exception, so that nothing on the way takes it for its own."""


class WriteWatch:
    """Paths outside of the given folders that this process opens for writing or changes, while it is on.

    A hook cannot be removed, so there is one for all.
    """

    _current: "WriteWatch | None" = None
    _installed = False

    def __init__(self, *allowed: Path) -> None:
        self.found: set[str] = set()
        self._allowed = (*(f"{folder.resolve()}/" for folder in allowed), "/dev/", "/proc/")

    def __enter__(self) -> "WriteWatch":
        if not WriteWatch._installed:
            WriteWatch._installed = True
            sys.addaudithook(_note_write)
        WriteWatch._current = self
        return self

    def __exit__(self, *_: object) -> None:
        WriteWatch._current = None

    def note(self, event: str, arguments: Sequence[object]) -> None:
        """Keep the path of an event that changes something, where it is none of the allowed."""
        writes = event == "open" and len(arguments) > 2 and isinstance(arguments[2], int) and arguments[2] & WRITES
        # a link is made at the second
        named = arguments[1] if event in ("os.symlink", "os.link") else arguments[0] if arguments else None
        if (writes or event in CHANGES) and isinstance(named, str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(named))
            if not f"{path}/".startswith(self._allowed) and "__pycache__" not in path:
                self.found.add(path)


def _note_write(event: str, arguments: tuple[object, ...]) -> None:
    if WriteWatch._current:
        WriteWatch._current.note(event, arguments)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsUpError in the block when it takes longer; in the main thread alone."""

    def stop(*_: object) -> None:
        raise TimeIsUpError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_process(words: Sequence[str]) -> Ended:
    """A command line in this process."""
    from finetune.cli.main import run

    return ended(words, lambda: run(words))


def ended(words: Sequence[str], body: Callable[[], int]) -> Ended:
    """What body returned and showed, as of a command line."""
    shown = io.StringIO()
    # other processes take their time; what waits for ever meets the limit
    start = time.process_time()
    code: int | None = None
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            with time_limit(4 * MAX_SECONDS):
                code = body()
        except TimeIsUpError:
            pass
    return Ended(tuple(words), code, shown.getvalue(), time.process_time() - start)


def in_own_process(words: Sequence[str]) -> Ended:
    """A command line as a user starts it, in a name space where all but its folder is read-only where that works."""
    # an argument of a process ends at NUL and is bytes: what holds more is tried in this process alone
    typed = [word.partition("\0")[0].encode(errors="replace").decode() for word in words]
    command = [sys.executable, "-c", "from finetune.cli.main import main; main()", *typed]
    bubblewrap = shutil.which("bwrap")
    if bubblewrap:
        here = os.getcwd()
        command = [bubblewrap, "--ro-bind", "/", "/", "--dev", "/dev", "--bind", here, here, *command]
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    # loading the libraries takes as long again
    seconds = max(0.0, end.ru_utime - start.ru_utime - MAX_SECONDS)
    return Ended(tuple(typed), done.returncode, (done.stdout + done.stderr).decode(errors="replace"), seconds)


def gate_of(path: Path) -> int:
    """The gate in a file, as `adapter promote` reads it first of all."""
    from finetune.cli.errors import run_guarded
    from finetune.release.gate import load_gate

    return run_guarded(lambda: load_gate(path) and None, debug=False, as_json=False)


def trust_of(path: Path) -> int:
    """The policy of whose adapters are taken, as `adapter verify --trust` and the server read it."""
    from finetune.cli.errors import run_guarded
    from finetune.contracts.trust import load_trust

    return run_guarded(lambda: load_trust(path) and None, debug=False, as_json=False)


def identity_of(path: Path) -> int:
    """The rules of who is let in, as `serve start` reads them in its home."""
    from finetune.cli.errors import run_guarded
    from serving.access.identity import load_identity

    return run_guarded(lambda: load_identity(path.parent) and None, debug=False, as_json=False)


def names_of(path: Path) -> int:
    """For whom names are, as `serve start` reads it in its home."""
    from finetune.cli.errors import run_guarded
    from serving.access.names import load_name_rules

    return run_guarded(lambda: load_name_rules(path.parent) and None, debug=False, as_json=False)


READERS: Mapping[str, Callable[[Path], int]] = {
    "gate": gate_of,
    "trust": trust_of,
    "identity": identity_of,
    "names": names_of,
}


def commands(kind: str, file: Path, draw: random.Random) -> list[str]:
    """A command line that reads a file of a kind."""
    name = str(file)
    if kind == "pipeline":
        return ["data", "build", name, "--out", "out", "--home", "home", "--jail", "off"]
    sets = []
    if draw.random() < 0.3:
        sets = ["--set", f"{draw.choice(KEYS)}={draw.choice(TEXTS)}"]
    choices = (
        ["recipe", "validate", name, "--home", "home", *sets],
        ["recipe", "show", name, "--home", "home", *sets],
        ["recipe", "show", name, "--home", "home", "--json"],
        ["plan", name, "--card", "24GiB", "--home", "home"],
        [
            "train",
            name,
            "--dry-run",
            "--home",
            "home",
            "--jail",
            "off",
            "--sweep",
            f"{draw.choice(KEYS)}={draw.choice(TEXTS)},1",
        ],
    )
    return draw.choice(choices)


def good_files() -> list[tuple[str, bytes]]:
    """Every file that ships, by its kind."""
    recipes = [path for path in sorted((ROOT / "recipes").rglob("*.yaml")) if path.parent.name != "data"]
    found = [("recipe", path.read_bytes()) for path in recipes]
    # its base is here, so what comes after the file is read is reached
    found += [("recipe", (ROOT / "recipes" / "qwen3_5" / "embedded-qlora.yaml").read_bytes())] * len(found)
    found += [("pipeline", path.read_bytes()) for path in sorted((ROOT / "recipes" / "data").glob("*.yaml"))] * 3
    gate = (ROOT / "finetune" / "release" / "gate.yaml").read_bytes()
    return [*found, *[("gate", gate)] * 2, *[("identity", IDENTITY), ("names", NAMES), ("trust", TRUST)] * 2]


def try_file(kind: str, file: Path, draw: random.Random, *, start: Callable[[Sequence[str]], Ended]) -> Ended:
    """Give a file to what reads its kind."""
    if kind in READERS:
        return ended([kind, str(file)], lambda: READERS[kind](file))
    return start(commands(kind, file, draw))


def fuzz(folder: Path, *, number: int, seed: int, start: Callable[[Sequence[str]], Ended] = in_process) -> Findings:
    """So many files made wrong in an empty folder, and what is no file at all; folder is the working directory."""
    draw = random.Random(seed)
    findings = Findings()
    goods = good_files()
    # what is imported once is not the first file's time
    in_process(["plan", str(ROOT / "recipes" / "qwen3_5" / "embedded-qlora.yaml"), "--card", "24GiB"])
    for count in range(number):
        kind, source = draw.choice(goods)
        wrong = mangled(source, draw)
        file = folder / f"{kind}.yaml"
        file.write_bytes(wrong.content)
        findings.add(kind, f"{count} {wrong.done}", file, try_file(kind, file, draw, start=start))
        # a wrong value may be a right one, and then there is something
        shutil.rmtree(folder / "out", ignore_errors=True)
    return findings


def fuzz_special(folder: Path) -> Findings:
    """What is no file of a user, given as each kind."""
    draw = random.Random(0)
    findings = Findings()
    for path in special_files(folder):
        for kind in ("recipe", "pipeline", "gate", "trust"):
            findings.add(kind, "special", path, try_file(kind, path, draw, start=in_process))
    return findings


def main() -> None:
    """Print the exit codes by kind of file and what should not have been; exit code 1 when there is something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=50)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp()).resolve()
    os.chdir(folder)
    tempfile.tempdir = str(folder)
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with WriteWatch(folder) as watch:
        found = [fuzz(folder, number=options.number, seed=options.seed), fuzz_special(folder)]
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"{options.number} files in {time.monotonic() - start:.1f} s, {growth / 2**20:.0f} MiB more memory")
    found.append(fuzz(folder, number=options.processes, seed=options.seed + 1, start=in_own_process))
    problems = [problem for one in found for problem in one.problems] + [f"written: {path}" for path in watch.found]
    for name, one in zip(("in this process", "no files", "own processes"), found, strict=True):
        print(name, {f"{kind} {code}": count for (kind, code), count in sorted(one.codes.items(), key=str)})
    print("\n".join(problems) or "nothing that should not be")
    shutil.rmtree(folder)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
