"""A wheel of this project, made from the files that are running: a checkout and an installed one give the same.

No build tool runs, and the wheel's bytes depend on the files alone.
"""

import base64
import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution
from pathlib import Path

METADATA_NAMES = ("METADATA", "WHEEL", "entry_points.txt", "top_level.txt")
# the least that a zip can say
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_own_wheel(folder: Path, sources: Path, *, installed: Distribution) -> Path:
    """Write the wheel of a distribution that is installed, the packages of which lie in sources."""
    start = f"{installed.name}-{installed.version}"
    packages = (installed.read_text("top_level.txt") or "").split()
    files = {path.relative_to(sources).as_posix(): path.read_bytes() for path in _package_files(sources, packages)}
    for name in METADATA_NAMES:
        files[f"{start}.dist-info/{name}"] = (installed.read_text(name) or "").encode()
    files[f"{start}.dist-info/RECORD"] = _record(files, f"{start}.dist-info/RECORD")
    wheel = folder / f"{start}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return wheel


def _package_files(sources: Path, packages: Sequence[str]) -> Iterator[Path]:
    for package in sorted(packages):
        for path in sorted((sources / package).rglob("*")):
            parts = path.relative_to(sources).parts
            if path.is_file() and "__pycache__" not in parts and not any(part.startswith(".") for part in parts):
                yield path


def _record(files: dict[str, bytes], own_name: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{own_name},,", ""]).encode()
