"""The clean room of both instruments: nothing of the caller's environment, and every look-up of a name shows.

Needs bubblewrap; otherwise the standard library alone. It imports nothing of this project, for it judges it.
"""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

NO_INSTRUMENT = 125
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = {
    "strace": "strace",
    "bwrap": "bubblewrap",
    "tcpdump": "tcpdump",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
# Whatever the machine's own resolver is, in the room a name that /etc/hosts lacks is asked of this address, which is
# reserved for documentation: a look-up is then a call to port 53 that no cache and no other process answers.
NAME_SERVER = "192.0.2.53"
RESOLVER = f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n"
NAME_SWITCH, CACHE_OF_NAMES = Path("/etc/nsswitch.conf"), Path("/run/nscd")


def give_up(problem: str, step: str) -> NoReturn:
    """End without a verdict."""
    sys.stderr.write(f"{problem}\n{step}\n")
    sys.exit(NO_INSTRUMENT)


def find(name: str) -> str:
    """The absolute path of a program; ends with the package that holds it where it is missing."""
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        give_up(f"{name} is not found.", f"On Debian and Ubuntu: apt-get install -y {PACKAGES[name]}")
    return found


@dataclass(frozen=True, slots=True)
class Room:
    """Where a command runs: its whole environment, and the files that stand over the machine's."""

    folder: Path
    environment: Mapping[str, str]

    def command(self, inner: Sequence[str], *, options: Sequence[str] = ()) -> list[str]:
        """What starts inner in the room; options go to bubblewrap."""
        covers = []
        for file, place in (("resolv.conf", Path("/etc/resolv.conf")), ("nsswitch.conf", NAME_SWITCH)):
            # a missing one is not made: the disk is the machine's own, and stays as it is
            if place.exists():
                covers += ["--ro-bind", str(self.folder / file), str(place.resolve())]
        if CACHE_OF_NAMES.is_dir():
            covers += ["--tmpfs", str(CACHE_OF_NAMES)]
        # /dev/shm and devices are the command's to use: a GPU is one
        return [find("bwrap"), "--dev-bind", "/", "/", *covers, *options, "--", *inner]


@contextlib.contextmanager
def clean_room() -> Iterator[Room]:
    """A room with an empty home folder, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="egress-") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        (folder / "resolv.conf").write_text(RESOLVER)
        (folder / "nsswitch.conf").write_text(_name_switch())
        yield Room(folder, {"PATH": SYSTEM_PATH, "HOME": str(folder / "home"), "LANG": "C.UTF-8"})


def _name_switch() -> str:
    """The machine's own, but hosts are looked up in files and by DNS alone."""
    lines = NAME_SWITCH.read_text().splitlines() if NAME_SWITCH.exists() else []
    kept = [line for line in lines if not line.lstrip().startswith("hosts:")]
    return "\n".join([*kept, "hosts: files dns", ""])
