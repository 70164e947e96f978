"""BaseRecord: a base model that `finetune base add` brought into a home, and how one finds it by its name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from finetune.contracts.adapter import BaseIdentity, FileDigest
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import BaseModelError
from finetune.contracts.io import read_model

BASE_RECORD_NAME = "base.json"
BASE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
README_HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
LICENCE_LINE = re.compile(r"^(license|license_name): *[\"']?([\w.+ -]{1,80}?)[\"']? *$", re.M)
LARGEST_README = 1 << 20
AGAIN = "Delete the folder and bring the base in again: `finetune base add FOLDER`."


class BaseRecord(Contract):
    """What was brought in. digest covers every file, identity.digest what adapters are bound to: weights and config.

    licence is an SPDX name or what the user said; licence_from says who said so: "--licence", or a file of the base.
    """

    schema_version: Literal[1] = 1
    name: str
    digest: str
    identity: BaseIdentity
    family: str
    licence: str
    licence_from: str
    files: tuple[FileDigest, ...]

    @property
    def folder_name(self) -> str:
        """Its folder under the home's bases."""
        return f"{self.name}-{self.digest[:12]}"


def read_base(folder: Path) -> BaseRecord:
    """The record of a base in a home; its files are not looked at. Raises BaseModelError."""
    return read_model(folder / BASE_RECORD_NAME, BaseRecord, error=BaseModelError, hint=AGAIN)


def list_bases(bases: Path) -> Iterator[tuple[Path, BaseRecord]]:
    """The bases of a home, in order of their names, each with its folder; 4-bit copies lie beside them."""
    for record in sorted(bases.glob(f"[!.]*/{BASE_RECORD_NAME}")):
        yield record.parent, read_base(record.parent)


def find_base(bases: Path, name: str) -> Path | None:
    """The folder of the base that is called name, in any case, or has the folder's name; None where there is none.

    Raises BaseModelError where several are called so.
    """
    wanted = name.lower()
    if not BASE_NAME.fullmatch(wanted):
        return None
    found = [folder for folder, record in list_bases(bases) if wanted in (record.name, folder.name)]
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise BaseModelError(f"Several bases in {bases} are called {name}.", f"Name one of them: {names}.")
    return found[0] if found else None


def known_licence(folder: Path) -> str:
    """What is known of a base's licence: what was recorded when it was brought in, or what its README says; else ""."""
    if (folder / BASE_RECORD_NAME).is_file():
        return read_base(folder).licence
    return readme_licence(folder)


def readme_licence(folder: Path) -> str:
    """The licence that the head of a base's README states, "" where it states none."""
    readme = folder / "README.md"
    if not readme.is_file() or readme.stat().st_size > LARGEST_README:
        return ""
    head = README_HEAD.match(readme.read_text(encoding="utf-8", errors="replace"))
    said = dict(LICENCE_LINE.findall(head[1])) if head else {}
    return said.get("license_name") or said.get("license") or ""
