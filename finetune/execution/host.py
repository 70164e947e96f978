"""What the jail is built with on this host: programs, and whether they start as root."""

import os
import shutil
from dataclasses import dataclass

from finetune.contracts.errors import MachineError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = {
    "bwrap": "bubblewrap",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "prlimit": "util-linux",
    "mount": "mount",
    "tar": "tar",
}


@dataclass(frozen=True, slots=True)
class Host:
    """Absolute paths of the programs; path is the PATH that they are started with."""

    bwrap: str
    setpriv: str
    unshare: str
    prlimit: str
    path: str = SYSTEM_PATH
    is_root: bool = False


def find_host() -> Host:
    """The host's programs; raises MachineError naming those that are missing and the packages that hold them."""
    found = {name: shutil.which(name, path=SYSTEM_PATH) for name in PACKAGES}
    missing = [name for name, place in found.items() if place is None]
    if missing:
        packages = " ".join(sorted({PACKAGES[name] for name in missing}))
        raise MachineError(
            f"No jail on this machine, so no code under test is run: {', '.join(missing)} not found.",
            f"Install what is missing, on Debian and Ubuntu: apt-get install -y {packages}",
        )
    programs = {name: str(found[name]) for name in ("bwrap", "setpriv", "unshare", "prlimit")}
    return Host(**programs, is_root=os.geteuid() == 0)
