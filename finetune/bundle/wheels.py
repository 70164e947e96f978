"""The machine that a bundle is for, and what a wheel says of itself."""

import platform
import re
import sys
import zipfile
import zlib
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from packaging.utils import canonicalize_name

from finetune.contracts.errors import MachineError, UsageError

MANYLINUX = re.compile(r"manylinux_2_(\d+)_(\w+)")
# the oldest of the numbered tags; before them these names meant a version of glibc
OLDEST_MINOR = 5
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
UNKNOWN = "unknown"
LONGEST_LICENCE = 60


@dataclass(frozen=True)
class Target:
    """The machine that wheels are for. platform None: one like this; python is such as "3.11"."""

    platform: str | None
    python: str

    @property
    def options(self) -> list[str]:
        """What pip is told of it; nothing where it is a machine like this one, which pip knows best."""
        if self.platform is None and self.python == running_python():
            return []
        if self.platform is None:
            raise UsageError(
                "--python needs --platform.", "For example: --platform manylinux_2_28_x86_64 --python 3.12"
            )
        tags = [word for tag in _tags(self.platform) for word in ("--platform", tag)]
        return ["--implementation", "cp", "--python-version", self.python, *tags]

    @property
    def machine(self) -> str:
        """Its processor, such as "x86_64"."""
        found = MANYLINUX.fullmatch(self.platform or "")
        return found[2] if found else platform.machine()

    @property
    def environment(self) -> dict[str, str]:
        """What differs there from here for the markers of requirements."""
        if self.platform is None:
            return {}
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": self.machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
        }


@dataclass(frozen=True)
class Wheel:
    """A wheel, by its file name and its metadata. licence is "unknown" where it names none.

    glibc is the minor of the oldest glibc 2 that it runs on, 0 where it asks for none. unpacked: bytes on the disk.
    requires are its requirements as they are written, markers included.
    """

    path: Path
    name: str
    version: str
    licence: str
    glibc: int
    unpacked: int
    requires: tuple[str, ...]


def running_python() -> str:
    """Major and minor version of this interpreter, such as "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def read_wheel(path: Path) -> Wheel:
    """Read what a wheel says of itself. Raises MachineError where it is none, or where a part of it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
            unpacked = sum(entry.file_size for entry in archive.infolist())
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            metadata = HeaderParser().parsestr(archive.read(name).decode("utf-8", errors="replace"))
    except (zipfile.BadZipFile, zlib.error, StopIteration, OSError) as cause:
        raise MachineError(
            f"{path} is no wheel, or is damaged.", "Delete it, then run the same command again."
        ) from cause
    return Wheel(
        path=path,
        name=canonicalize_name(str(metadata["Name"])),
        version=str(metadata["Version"]),
        licence=_licence(metadata),
        glibc=_glibc(path),
        unpacked=unpacked,
        requires=tuple(metadata.get_all("Requires-Dist", [])),
    )


def _licence(metadata: Message) -> str:
    """SPDX expression, or the free field where it is a name and no text, or the classifiers."""
    free = str(metadata["License"] or "").strip()
    classes = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line.startswith("License ::")
    ]
    short = free if len(free) <= LONGEST_LICENCE and "\n" not in free and free.upper() != UNKNOWN.upper() else ""
    return str(metadata["License-Expression"] or "") or short or "; ".join(classes) or UNKNOWN


def _glibc(path: Path) -> int:
    """The least that one of the file name's platform tags asks for."""
    tags = path.stem.rpartition("-")[2]
    for minor, old in OLD_NAMES.items():
        tags = re.sub(rf"{old}_", f"manylinux_2_{minor}_", tags)
    return min((int(found[1]) for found in MANYLINUX.finditer(tags)), default=0)


def _tags(platform: str) -> list[str]:
    """The tags of wheels that run on a platform: those of each older glibc, and of plain Linux on that processor."""
    found = MANYLINUX.fullmatch(platform)
    if found is None:
        raise UsageError(f"--platform {platform} is not one of Linux wheels.", "For example: manylinux_2_28_x86_64")
    newest, machine = int(found[1]), found[2]
    tags = []
    for minor in range(newest, OLDEST_MINOR - 1, -1):
        tags += [f"manylinux_2_{minor}_{machine}", *([f"{OLD_NAMES[minor]}_{machine}"] if minor in OLD_NAMES else [])]
    return [*tags, f"linux_{machine}"]
