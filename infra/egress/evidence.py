"""What both instruments share: their command line, the self-test's verdict, and the report that is kept."""

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from room import find, give_up

# what an instrument ends with where something tried to leave; any other code but NO_INSTRUMENT is the command's own
ATTEMPTS = 120


@dataclass(frozen=True, slots=True)
class Order:
    """What to do: the folder for the evidence, and the command; an empty command is the self-test alone."""

    folder: Path
    command: tuple[str, ...]


def read_order(description: str) -> Order:
    """The order on the command line; ends where the folder holds a report already."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.add_argument("--out", required=True, help="folder for the evidence")
    parser.add_argument("--self-test", action="store_true", help="run the planted attempts alone")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = tuple(options.command[1:] if options.command[:1] == ["--"] else options.command)
    if options.self_test == bool(command):
        parser.error("name a command to run, or --self-test")
    folder = Path(options.out).absolute()
    if (folder / "report.json").exists():
        give_up(f"{folder} holds a report already, and evidence is not overwritten.", "Name another folder with --out.")
    folder.mkdir(parents=True, exist_ok=True)
    return Order(folder, command)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The planted attempts, all of them caught; interfaces are those that they found."""

    caught: tuple[str, ...]
    interfaces: tuple[str, ...]


def judge(printed: bytes, is_caught: Mapping[str, bool]) -> SelfTest:
    """Compare what the planted attempts say of themselves with what was caught; ends where one was missed."""
    if not printed:
        give_up("The planted attempts did not run.", "Read what they wrote above; the command was not run.")
    document = json.loads(printed)
    missed = [name for name in document["planted"] if not is_caught[name]]
    if missed:
        give_up(
            f"Planted attempts were not caught: {', '.join(missed)}.",
            "An instrument that misses these proves nothing on this machine; the command was not run.",
        )
    tested = SelfTest(tuple(document["planted"]), tuple(document["interfaces"]))
    sys.stderr.write(f"Planted attempts caught, {len(tested.caught)}: {', '.join(tested.caught)}.\n")
    return tested


@dataclass(frozen=True, slots=True)
class Report:
    """The evidence. attempts are whole, attempt_lines for reading; figures are the instrument's own.

    files are those that the report was read from, with their SHA-256; started and ended are in UTC.
    """

    instrument: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    exit_code: int
    started: str
    ended: str
    attempts: Sequence[Mapping[str, object]]
    attempt_lines: Sequence[str]
    figures: Mapping[str, object]
    self_test: SelfTest
    files: Mapping[str, str]
    machine: Mapping[str, str]

    @property
    def verdict(self) -> str:
        return f"{len(self.attempts)} attempts to leave" if self.attempts else "no attempt to leave"

    def write(self, folder: Path) -> int:
        """Leave report.json and report.txt, and say the same on stderr; returns what the instrument ends with."""
        document = {"verdict": self.verdict, "working_directory": str(Path.cwd()), **asdict(self)}
        (folder / "report.json").write_text(json.dumps(document, indent=2) + "\n")
        text = self._text()
        (folder / "report.txt").write_text(text)
        sys.stderr.write(f"\n{text}{'report':14} {folder / 'report.json'}\n")
        return ATTEMPTS if self.attempts else self.exit_code

    def _text(self) -> str:
        facts = {
            "instrument": self.instrument,
            "command": " ".join(self.command),
            "exit code": self.exit_code,
            "verdict": self.verdict,
            **self.figures,
            "planted": f"{len(self.self_test.caught)} of {len(self.self_test.caught)} caught",
            "time": f"{self.started} to {self.ended}",
            **self.machine,
            **{name: f"SHA-256 {value}" for name, value in self.files.items()},
        }
        lines = [f"{name.replace('_', ' '):14} {_plain(value)}" for name, value in facts.items()]
        return "\n".join([*lines, *(f"  {line}" for line in self.attempt_lines), ""])


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} ({count})" for name, count in value.items()) or "none"
    return str(value)


def digests(*files: Path) -> dict[str, str]:
    """SHA-256 of each file, in hexadecimal, by name."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def machine(*programs: str) -> dict[str, str]:
    """The kernel, and the version of each program."""
    versions = {}
    for name in programs:
        flag = "-V" if name == "ip" else "--version"
        done = subprocess.run([find(name), flag], check=False, capture_output=True, text=True, errors="replace")
        versions[name] = ((done.stdout or done.stderr).splitlines() or ["unknown"])[0]
    return {"kernel": f"{platform.system()} {platform.release()} {platform.version()}", **versions}
