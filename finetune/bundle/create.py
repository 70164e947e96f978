"""Make a bundle: wheels for a machine, this project, recipes, documents, and the file that installs them."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import distribution, version
from pathlib import Path

import finetune.bundle.install
from finetune.bundle.archive import Content, write_archive
from finetune.bundle.fetching import fetch, try_wheels
from finetune.bundle.install import (
    INSTALLER_NAME,
    MANIFEST_NAME,
    REQUIREMENTS_NAME,
    SCHEMA_VERSION,
    WHEEL_FOLDER,
    BundledFile,
    BundleManifest,
)
from finetune.bundle.own_wheel import OwnPackages, of_checkout, of_installed, write_own_wheel
from finetune.bundle.wheels import UNKNOWN, Target, Wheel, read_wheel
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.io import digest_bytes, digest_file, digest_json, disk_errors, to_json, write_text
from finetune.terminal.progress import byte_progress

NAME = "finetune"
PACKAGES = ("data_pipelines", "finetune", "serving")
LOCK_NAME = "requirements.lock"
LICENCES_NAME = "licences.json"
# what a user reads and copies from, beside the wheels; not infra/, where a user's secrets and bundles may lie
FOLDERS = ("recipes", "docs")


@dataclass(frozen=True)
class Project:
    """What is bundled; root holds its lock, recipes and documents, extras are those of its wheel."""

    own: OwnPackages
    root: Path
    extras: tuple[str, ...]


@dataclass(frozen=True)
class MadeBundle:
    """A bundle that was written. unknown_licences names the wheels whose metadata says nothing of a licence."""

    path: Path
    sha256: str
    bytes: int
    num_wheels: int
    unknown_licences: tuple[str, ...]


def running_project(extras: Sequence[str]) -> Project:
    """The project that runs: a checkout, or what a bundle installed. Raises MachineError where its lock is missing."""
    sources, installed_root = Path(finetune.bundle.install.__file__).resolve().parents[2], Path(sys.prefix)
    if (sources / LOCK_NAME).is_file():
        return Project(of_checkout(sources, version=finetune.__version__, packages=PACKAGES), sources, tuple(extras))
    if (installed_root / LOCK_NAME).is_file():
        return Project(of_installed(distribution(NAME), sources), installed_root, tuple(extras))
    raise MachineError(
        f"There is no {LOCK_NAME} in {sources} or {installed_root}.",
        "Make the bundle from a clone of the project, or where a bundle was installed.",
    )


def create_bundle(project: Project, out: Path, *, target: Target, own_wheels: Path | None = None) -> MadeBundle:
    """Write the bundle of project for target to out.

    Each wheel in the folder own_wheels goes in, in place of the one that pip would fetch. What pip fetches waits beside
    out until the bundle is whole, so the same command goes on where it was stopped. Raises InputError, MachineError.
    """
    own = _own_wheels(own_wheels)
    parts = out.with_name(f".{out.name}.{_inputs(project, target, own)}.parts")
    with disk_errors(out):
        parts.mkdir(parents=True, exist_ok=True)
        for path in own:
            shutil.copyfile(path, parts / path.name)
        write_own_wheel(project.own, parts)
    extras = f"[{','.join(project.extras)}]" if project.extras else ""
    wanted = [f"{project.own.name}{extras}", f"pip=={version('pip')}", *(read_wheel(path).name for path in own)]
    wheels = fetch(wanted, parts, lock=project.root / LOCK_NAME, target=target)
    pins = parts / REQUIREMENTS_NAME
    write_text(pins, "".join(f"{one.name}=={one.version} --hash=sha256:{digest_file(one.path)}\n" for one in wheels))
    try_wheels(pins, parts, target=target)
    made = _write(project, out, wheels=wheels, pins=pins, target=target)
    shutil.rmtree(parts)
    return made


def brought_along(root: Path) -> dict[str, Path]:
    """What lies beside the wheels, by its name in the bundle; root holds the project."""
    paths = (path for folder in FOLDERS for path in sorted((root / folder).rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path for path in paths}


def _own_wheels(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    found = sorted(folder.absolute().glob("*.whl"))
    if not found:
        raise InputError(f"There is no wheel in {folder}.", "Put the .whl files there that --wheels is to prefer.")
    return found


def _inputs(project: Project, target: Target, own: list[Path]) -> str:
    """What decides which wheels are wanted, as a name."""
    return digest_json(
        {
            "lock": (project.root / LOCK_NAME).read_text(),
            "target": str(target),
            "extras": list(project.extras),
            "project": project.own.metadata["METADATA"],
            "own": [path.name for path in own],
        }
    )[:8]


def _write(project: Project, out: Path, *, wheels: list[Wheel], pins: Path, target: Target) -> MadeBundle:
    files: dict[str, Content] = {INSTALLER_NAME: Path(finetune.bundle.install.__file__).read_bytes()}
    files[REQUIREMENTS_NAME] = pins
    files[LICENCES_NAME] = to_json(
        [{"name": wheel.name, "version": wheel.version, "licence": wheel.licence} for wheel in wheels]
    ).encode()
    files[LOCK_NAME] = project.root / LOCK_NAME
    files |= brought_along(project.root)
    files |= {f"{WHEEL_FOLDER}/{wheel.path.name}": wheel.path for wheel in wheels}
    manifest = BundleManifest(
        schema_version=SCHEMA_VERSION,
        version=project.own.version,
        python=target.python,
        machine=target.machine,
        glibc=_glibc(wheels),
        installed_bytes=sum(wheel.unpacked for wheel in wheels),
        files=tuple(_entry(name, content) for name, content in files.items()),
    )
    total = sum(entry.bytes for entry in manifest.files)
    with byte_progress(f"Writing {out}", total) as seen:
        write_archive(out, {MANIFEST_NAME: to_json(asdict(manifest)).encode(), **files}, seen=seen)
    unknown = tuple(wheel.name for wheel in wheels if wheel.licence == UNKNOWN)
    return MadeBundle(out, digest_file(out), out.stat().st_size, len(wheels), unknown)


def _glibc(wheels: list[Wheel]) -> str:
    newest = max(wheel.glibc for wheel in wheels)
    return f"2.{newest}" if newest else ""


def _entry(name: str, content: Content) -> BundledFile:
    if isinstance(content, bytes):
        return BundledFile(name, len(content), digest_bytes(content))
    return BundledFile(name, content.stat().st_size, digest_file(content))
