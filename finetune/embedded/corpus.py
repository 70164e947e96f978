"""The corpus: Python source of the standard library and of permissively licensed packages in this environment."""

import ast
import hashlib
import re
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

# Whole packages that the model never saw: its own evaluation. Libraries, a web framework and part of the stdlib.
HELD_OUT = ("rich", "starlette", "stdlib.asyncio")
# No package may outweigh the rest: without a cap, four large numerical libraries are half of the text.
MAX_PACKAGE_BYTES = 1_200_000
MAX_FILE_BYTES = 100_000
MIN_FILE_BYTES = 200
MAX_LINE_CHARACTERS = 400
MAX_DIGIT_SHARE = 0.2
PERMISSIVE = re.compile(
    r"\b(MIT|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|Unlicense|HPND|Zlib)\b", re.IGNORECASE
)
# Copies of other packages would let held-out text in by the back door.
SKIPPED_PARTS = frozenset({"_vendor", "vendor", "vendored", "third_party", "site-packages", "__pycache__", "idlelib"})


@dataclass(frozen=True)
class Document:
    """One source file; path starts with the package's name."""

    package: str
    path: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """Files to learn from and files to be judged on; licenses holds each package's licence as it states it."""

    train: tuple[Document, ...]
    heldout: tuple[Document, ...]
    licenses: tuple[tuple[str, str], ...]


def collect() -> Corpus:
    """Read the corpus of this environment, in a fixed order. A file whose bytes were seen before is left out."""
    seen: set[str] = set()
    licenses: dict[str, str] = {}
    by_package: dict[str, list[Document]] = defaultdict(list)
    # held-out packages first, so that a copy elsewhere is the one left out
    for package, license_name, root, files in sorted(
        _packages(), key=lambda entry: (entry[0] not in HELD_OUT, entry[0])
    ):
        licenses[package] = license_name
        by_package[package] += _capped(_documents(package, root, files, seen=seen))
    train = [document for name, rows in sorted(by_package.items()) if name not in HELD_OUT for document in rows]
    heldout = [document for name in HELD_OUT for document in by_package[name]]
    used = {document.package for document in train + heldout}
    return Corpus(tuple(train), tuple(heldout), tuple((name, licenses[name]) for name in sorted(used)))


def held_out_documents() -> tuple[Document, ...]:
    """The held-out files of collect, without reading the rest."""
    seen: set[str] = set()
    found = {
        package: _capped(_documents(package, root, files, seen=seen))
        for package, _, root, files in sorted(_packages())
        if package in HELD_OUT
    }
    return tuple(document for name in HELD_OUT for document in found.get(name, ()))


def _packages() -> Iterator[tuple[str, str, Path, list[Path]]]:
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    version = f"PSF-2.0 (Python {sysconfig.get_python_version()})"
    modules = sorted(stdlib.glob("*.py"))
    yield "stdlib", version, stdlib, modules
    for folder in sorted(path for path in stdlib.iterdir() if path.is_dir() and path.name not in SKIPPED_PARTS):
        yield f"stdlib.{folder.name}", version, stdlib, sorted(folder.rglob("*.py"))
    for package in sorted(metadata.distributions(), key=lambda found: found.name.lower()):
        license_name = license_of(package)
        # not this project: the demo trains on its repository, which the base must not have seen
        if PERMISSIVE.search(license_name) and package.name.lower() != "finetune":
            files = sorted(str(file) for file in package.files or () if file.suffix == ".py" and ".." not in file.parts)
            root = Path(str(package.locate_file("")))
            yield (
                f"{package.name.lower()}",
                f"{license_name} ({package.version})",
                root,
                [root / file for file in files],
            )


def license_of(package: metadata.Distribution) -> str:
    """The licence that a package states: SPDX expression, else classifiers, else the first line of its field."""
    fields: Any = package.metadata
    if fields.get("License-Expression"):
        return str(fields["License-Expression"])
    classifiers = [
        entry.rpartition(" :: ")[2] for entry in fields.get_all("Classifier") or () if entry.startswith("License ::")
    ]
    lines = str(fields.get("License") or "").strip().splitlines()
    return ", ".join(classifiers) or (lines[0][:80] if lines else "")


def _documents(package: str, root: Path, files: list[Path], *, seen: set[str]) -> Iterator[Document]:
    for file in files:
        relative = file.relative_to(root)
        if SKIPPED_PARTS.intersection(relative.parts) or not file.is_file():
            continue
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest in seen or not MIN_FILE_BYTES <= len(content) <= MAX_FILE_BYTES:
            continue
        text = readable_source(content)
        if text is not None:
            seen.add(digest)
            yield Document(package, relative.as_posix(), text)


def readable_source(content: bytes) -> str | None:
    """The text of a file that a person wrote as Python; None for data, generated or broken files."""
    try:
        text = content.decode("utf-8").replace("\r\n", "\n")
        ast.parse(text)
    except (UnicodeDecodeError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    head = text[:600].lower()
    if "generated by" in head or "do not edit" in head or "auto-generated" in head or "autogenerated" in head:
        return None
    if max(map(len, text.splitlines()), default=0) > MAX_LINE_CHARACTERS:
        return None
    digits = sum(character.isdigit() for character in text)
    return text if digits <= MAX_DIGIT_SHARE * len(text) else None


def _capped(documents: Iterator[Document]) -> list[Document]:
    rows = sorted(documents, key=lambda document: hashlib.sha256(document.path.encode()).digest())
    kept, size = [], 0
    for document in rows:
        size += len(document.text.encode())
        if size > MAX_PACKAGE_BYTES:
            break
        kept.append(document)
    return kept
