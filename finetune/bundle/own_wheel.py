"""A wheel of this project, made from the files that are running: a checkout and an installed one give the same.

No build tool runs, and the wheel's bytes depend on the files alone.
"""

import base64
import hashlib
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

METADATA_NAMES = ("METADATA", "WHEEL", "entry_points.txt", "top_level.txt")
WHEEL_TEXT = "Wheel-Version: 1.0\nGenerator: finetune\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True)
class OwnPackages:
    """What goes into the wheel: the packages that lie in sources, and the files of its metadata by name."""

    name: str
    version: str
    sources: Path
    packages: tuple[str, ...]
    metadata: Mapping[str, str]


def of_checkout(root: Path, *, version: str, packages: Sequence[str]) -> OwnPackages:
    """The packages of a checkout, as its pyproject.toml says: what an editable install says may be older."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    scripts = [f"{name} = {target}" for name, target in sorted(project["scripts"].items())]
    texts = {
        "METADATA": "\n".join([*_metadata(project, version), ""]),
        "WHEEL": WHEEL_TEXT,
        "entry_points.txt": "\n".join(["[console_scripts]", *scripts, ""]),
        "top_level.txt": "\n".join([*sorted(packages), ""]),
    }
    return OwnPackages(project["name"], version, root, tuple(packages), texts)


def of_installed(found: Distribution, sources: Path) -> OwnPackages:
    """The packages of a distribution that is installed in sources."""
    texts = {name: found.read_text(name) or "" for name in METADATA_NAMES}
    return OwnPackages(found.name, found.version, sources, tuple(texts["top_level.txt"].split()), texts)


def write_own_wheel(own: OwnPackages, folder: Path) -> Path:
    """Write the wheel into folder."""
    start = f"{own.name}-{own.version}"
    files = {path.relative_to(own.sources).as_posix(): path.read_bytes() for path in _package_files(own)}
    files |= {f"{start}.dist-info/{name}": text.encode() for name, text in own.metadata.items()}
    files[f"{start}.dist-info/RECORD"] = _record(files, f"{start}.dist-info/RECORD")
    wheel = folder / f"{start}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # dated 1980
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return wheel


def _metadata(project: Mapping[str, Any], version: str) -> Iterator[str]:
    yield from ("Metadata-Version: 2.4", f"Name: {project['name']}", f"Version: {version}")
    yield from (f"Summary: {project['description']}", f"License-Expression: {project['license']}")
    yield f"Requires-Python: {project['requires-python']}"
    yield from (f"Requires-Dist: {requirement}" for requirement in project["dependencies"])
    for extra, requirements in sorted(project["optional-dependencies"].items()):
        yield f"Provides-Extra: {extra}"
        yield from (f'Requires-Dist: {requirement}; extra == "{extra}"' for requirement in requirements)


def _package_files(own: OwnPackages) -> Iterator[Path]:
    for package in sorted(own.packages):
        for path in sorted((own.sources / package).rglob("*")):
            parts = path.relative_to(own.sources).parts
            if path.is_file() and "__pycache__" not in parts and not any(part.startswith(".") for part in parts):
                yield path


def _record(files: Mapping[str, bytes], own_name: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{own_name},,", ""]).encode()
