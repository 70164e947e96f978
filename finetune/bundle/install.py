"""Install finetune from a bundle on a machine that has Python and no network.

This one file is the command `finetune bundle install`, and lies in each bundle as install.py, where nothing is
installed yet; so it needs the standard library only. It checks every byte before it writes anything. DIR holds a folder
for each version, and `current`, a link to the one in use, which is set last: a failed install leaves what was there.
"""

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MANIFEST_NAME = "bundle.json"
INSTALLER_NAME = "install.py"
REQUIREMENTS_NAME = "requirements.txt"
WHEEL_FOLDER = "wheels"
SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILES = 10_000
CHUNK_BYTES = 1 << 20
# no part may begin with a dot, so none leads out of the folder
SAFE_NAME = re.compile(r"[A-Za-z0-9_][\w.+!-]*(/[A-Za-z0-9_][\w.+!-]*)*", re.ASCII)
DIGEST = re.compile(r"[0-9a-f]{64}")
AGAIN = "Copy the bundle again from where it was made, and compare its SHA-256."
Tell = Callable[[str], None]


class BundleError(Exception):
    """The archive is not what it says. hint is what to do next."""

    exit_code = 3

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint


class UnfitMachineError(BundleError):
    """This machine is not one that the bundle is for, or lacks what installing takes."""

    exit_code = 4


@dataclass(frozen=True)
class BundledFile:
    """A file of the archive."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class BundleManifest:
    """What a bundle holds; files are all of it but the manifest itself.

    python is such as "3.11", machine such as "x86_64". glibc is the oldest that every wheel runs on, "" where none asks
    for one. installed_bytes is what the wheels unpack to.
    """

    schema_version: int
    version: str
    python: str
    machine: str
    glibc: str
    installed_bytes: int
    files: tuple[BundledFile, ...]


@dataclass(frozen=True)
class CheckedBundle:
    """An archive each byte of which is as its manifest says; digest is the manifest's SHA-256."""

    path: Path
    manifest: BundleManifest
    digest: str

    @property
    def name(self) -> str:
        """Version and digest: the folder that it is installed as."""
        return f"{self.manifest.version}-{self.digest[:12]}"

    @property
    def bytes(self) -> int:
        """What its files take when they are unpacked."""
        return sum(entry.bytes for entry in self.manifest.files)


@dataclass(frozen=True)
class Installed:
    """What an install left. replaced is the version that was in use before, None where there was none."""

    folder: Path
    replaced: str | None

    @property
    def program(self) -> Path:
        """The command, by the link that the next version moves."""
        return self.folder.parents[1] / "current" / "bin" / "finetune"


def check_bundle(path: Path) -> CheckedBundle:
    """Read a bundle whole. Raises BundleError for what its manifest does not name, or names with another digest."""
    with _members(path) as members:
        first = next(members, None)
        if first is None or first[0].name != MANIFEST_NAME or first[0].size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{path} is no bundle: {MANIFEST_NAME} is not the first thing in it.", AGAIN)
        content = first[1].read()
        manifest = _parse_manifest(path, content)
        missing = {entry.name: entry for entry in manifest.files}
        for member, stream in members:
            _check_member(path, missing.pop(member.name, None), member, _digest(stream))
    if missing:
        raise BundleError(f"{path} lacks {min(missing)}, which its manifest names.", AGAIN)
    return CheckedBundle(path, manifest, hashlib.sha256(content).hexdigest())


def check_machine(bundle: CheckedBundle) -> None:
    """Raise UnfitMachineError where this interpreter, processor or C library is not what the wheels were built for."""
    wanted = bundle.manifest
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != wanted.python:
        raise UnfitMachineError(
            f"{bundle.path} is for Python {wanted.python}, and this is {here}.",
            f"Run it with python{wanted.python}, or have a bundle made with --python {here}.",
        )
    if sys.platform != "linux" or platform.machine() != wanted.machine:
        raise UnfitMachineError(
            f"{bundle.path} is for Linux on {wanted.machine}, and this is {sys.platform} on {platform.machine()}.",
            "Have a bundle made with --platform for this machine.",
        )
    library = _glibc()
    if wanted.glibc and _numbers(library) < _numbers(wanted.glibc):
        raise UnfitMachineError(
            f"{bundle.path} needs glibc {wanted.glibc}, and this machine has {library or 'none'}.",
            "Have a bundle made with --platform for its glibc, or use a newer system.",
        )


def install_bundle(path: Path, into: Path, *, tell: Tell) -> Installed:
    """Check a bundle and install it as into/versions/VERSION; then into/current is that. tell hears what is going on.

    A version that is there already and whole is only made current. Raises BundleError, UnfitMachineError.
    """
    tell(f"Checking {path}")
    bundle = check_bundle(path)
    check_machine(bundle)
    into = into.absolute()
    with _for_all_users(), _owned(into):
        folder = into / "versions" / bundle.name
        link = into / "current"
        replaced = os.readlink(link).rpartition("/")[2] if link.is_symlink() else None
        if not (folder / MANIFEST_NAME).is_file():
            _check_room(bundle, into)
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _fill(bundle, folder, tell=tell)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        _point(link, Path("versions") / bundle.name)
    return Installed(folder, replaced if replaced != bundle.name else None)


def _fill(bundle: CheckedBundle, folder: Path, *, tell: Tell) -> None:
    """Make the environment of a version in its folder; the manifest comes last and says that all of it is there."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked.") as place:
        unpacked = Path(place)
        tell("Unpacking")
        _unpack(bundle, unpacked)
        tell(f"Installing {sum(1 for _ in (unpacked / WHEEL_FOLDER).iterdir())} wheels: a few minutes")
        make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        _run(make, "Install Python's venv module.", temporary=unpacked)
        _run(_pip(folder / "bin" / "python", unpacked), AGAIN, temporary=unpacked)
        _run([str(folder / "bin" / "finetune"), "--version"], AGAIN, temporary=unpacked)
        for entry in unpacked.iterdir():
            if entry.name not in (WHEEL_FOLDER, INSTALLER_NAME, MANIFEST_NAME):
                entry.rename(folder / entry.name)
        os.sync()
        (unpacked / MANIFEST_NAME).rename(folder / MANIFEST_NAME)


def _pip(python: Path, unpacked: Path) -> list[str]:
    """pip out of its own wheel, on wheels of the right digest alone, blind to the settings of user and machine."""
    wheels = unpacked / WHEEL_FOLDER
    pip = next(wheels.glob("pip-*.whl"), None)
    if pip is None:
        raise BundleError("The bundle holds no pip.", AGAIN)
    options = ["--no-index", "--require-hashes", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
    start = [str(python), "-I", str(pip / "pip"), "--isolated", "install", *options]
    return [*start, "--find-links", str(wheels), "--requirement", str(unpacked / REQUIREMENTS_NAME)]


def _run(command: list[str], hint: str, *, temporary: Path) -> None:
    """Run a program that writes to its arguments and below temporary alone, blind to the settings of the user."""
    clean = {"PATH": os.defpath, "LANG": "C.UTF-8", "PIP_CONFIG_FILE": os.devnull, "HOME": os.devnull}
    done = subprocess.run(
        command,
        env={**clean, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.decode(errors="replace").strip().splitlines()[-15:])
        raise UnfitMachineError(f"{Path(command[0]).name} failed, nothing was changed:\n{last}", hint)


def _unpack(bundle: CheckedBundle, folder: Path) -> None:
    """Write the files out; each is checked again, for the archive could have been changed since it was read."""
    expected = {entry.name: entry for entry in bundle.manifest.files}
    with _members(bundle.path) as members:
        for member, stream in members:
            target = folder / member.name
            if member.name == MANIFEST_NAME:
                expected[member.name] = BundledFile(member.name, member.size, bundle.digest)
            if member.name not in expected:
                raise BundleError(f"{bundle.path} was changed while it was read: {member.name!r} is new.", AGAIN)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                _check_member(bundle.path, expected.pop(member.name), member, _digest(stream, out))


@contextmanager
def _members(path: Path) -> Iterator[Iterator[tuple[tarfile.TarInfo, IO[bytes]]]]:
    """The plain files of an archive, in order. Raises BundleError for anything else in it, and where it is no tar."""
    try:
        with tarfile.open(path, "r:") as archive:
            yield _plain_files(path, archive)
    except FileNotFoundError as cause:
        raise BundleError(f"There is no bundle {path}.", "`finetune bundle create` makes one.") from cause
    except (tarfile.TarError, EOFError) as cause:
        raise BundleError(f"{path} is no bundle, or is cut short: {cause}.", AGAIN) from cause


def _plain_files(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    for count, member in enumerate(archive):
        if count > MAX_FILES:
            raise BundleError(f"{path} holds more than {MAX_FILES} files.", AGAIN)
        stream = archive.extractfile(member) if member.type == tarfile.REGTYPE and not member.issparse() else None
        if stream is None:
            raise BundleError(f"{path} holds {member.name!r}, which is no plain file.", AGAIN)
        yield member, stream


def _parse_manifest(path: Path, content: bytes) -> BundleManifest:
    try:
        found = json.loads(content)
        if found["schema_version"] != SCHEMA_VERSION:
            raise BundleError(f"{path} was made by a newer finetune.", "Use the install.py that lies in the bundle.")
        files = tuple(BundledFile(**entry) for entry in found.pop("files"))
        manifest = BundleManifest(**found, files=files)
        _check_fields(manifest)
    except (ValueError, TypeError, KeyError, AttributeError) as cause:
        raise BundleError(f"{MANIFEST_NAME} in {path} is damaged: {cause}.", AGAIN) from cause
    return manifest


def _check_fields(manifest: BundleManifest) -> None:
    """Raise ValueError where a field is not of its form: the version becomes the name of a folder."""
    for text, form in (
        (manifest.version, r"[0-9][\w.+!-]{0,60}"),
        (manifest.python, r"3\.[0-9]{1,3}"),
        (manifest.machine, r"\w{1,40}"),
        (manifest.glibc, r"([0-9]{1,3}\.[0-9]{1,3})?"),
    ):
        if not re.fullmatch(form, text, re.ASCII):
            raise ValueError(f"{text!r} is not of its form")
    if not isinstance(manifest.installed_bytes, int) or manifest.installed_bytes < 0:
        raise ValueError("installed_bytes is no size")
    for entry in manifest.files:
        if not SAFE_NAME.fullmatch(entry.name) or not DIGEST.fullmatch(entry.sha256) or entry.name == MANIFEST_NAME:
            raise ValueError(f"{entry.name!r} cannot be a file of it")


def _check_member(path: Path, entry: BundledFile | None, member: tarfile.TarInfo, digest: str) -> None:
    if entry is None:
        raise BundleError(f"{path} holds {member.name!r}, which its manifest does not name, or names once only.", AGAIN)
    if member.size != entry.bytes or digest != entry.sha256:
        raise BundleError(f"{member.name} in {path} is not what the manifest says: it was damaged or altered.", AGAIN)


def _digest(stream: IO[bytes], out: IO[bytes] | None = None) -> str:
    """SHA-256 of a stream, which is copied to out on the way."""
    state = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        state.update(chunk)
        if out is not None:
            out.write(chunk)
    return state.hexdigest()


def _check_room(bundle: CheckedBundle, into: Path) -> None:
    needed, free = bundle.bytes + bundle.manifest.installed_bytes, shutil.disk_usage(into).free
    if free < needed:
        raise UnfitMachineError(
            f"Installing takes {needed / 1e9:,.1f} GB, and the disk of {into} has {free / 1e9:,.1f}.",
            "Free some space.",
        )


@contextmanager
def _for_all_users() -> Iterator[None]:
    """What is written meanwhile may be read by every user of the machine, whatever umask the shell has."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _owned(into: Path) -> Iterator[None]:
    """Hold the folder that is installed into, alone. Raises UnfitMachineError where it is of something else."""
    try:
        into.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in into.iterdir()} - {".lock"}
        link = into / "current"
        if (names and "versions" not in names) or (link.exists() and not link.is_symlink()):
            raise UnfitMachineError(f"{into} holds other things than finetune.", "Name a new or an empty folder.")
        with (into / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as cause:
        raise UnfitMachineError(f"Another install into {into} is at work.", "Wait until it has ended.") from cause
    except OSError as cause:
        raise UnfitMachineError(
            f"{into} cannot be written: {cause}.", "Choose another folder, or free space."
        ) from cause


def _point(link: Path, target: Path) -> None:
    """Let link name target from one moment to the next."""
    fresh = link.with_name(".current.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    os.replace(fresh, link)
    os.sync()


def _glibc() -> str:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")
    except (ValueError, OSError):
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> int:
    """`python3 install.py BUNDLE --into DIR`, or `--verify` to check only; returns an exit code of finetune."""
    parser = argparse.ArgumentParser(description="Install finetune from a bundle; no network is used.")
    parser.add_argument("bundle", type=Path, help="the archive that this file came with")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--into", type=Path, metavar="DIR", help="folder of all installed versions")
    what.add_argument("--verify", action="store_true", help="check every byte, install nothing")
    asked = parser.parse_args()
    try:
        if asked.verify:
            checked = check_bundle(asked.bundle)
            sys.stdout.write(f"{asked.bundle} is whole: {checked.name}, {len(checked.manifest.files)} files.\n")
        else:
            done = install_bundle(asked.bundle, asked.into, tell=_tell)
            sys.stdout.write(f"Installed {done.folder.name}. Next: {done.program} demo\n")
    except BundleError as error:
        sys.stderr.write(f"Error: {error.message}\n{error.hint}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
