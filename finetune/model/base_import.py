"""Bring a base model into a home: nothing in it may be code, each file has a digest, and its licence is known."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from finetune.contracts.adapter import FileDigest
from finetune.contracts.bases import (
    AGAIN,
    BASE_NAME,
    BASE_RECORD_NAME,
    BaseRecord,
    find_base,
    read_base,
    readme_licence,
)
from finetune.contracts.errors import BaseModelError, MachineError, UsageError
from finetune.contracts.io import (
    CHUNK_BYTES,
    digest_file,
    digest_json,
    digest_text,
    disk_errors,
    sole_writer,
    sync_folder,
    write_json,
)
from finetune.families.registry import family_for
from finetune.model.base_check import check_base_folder
from finetune.model.identity import CONFIG_NAME, identity_of
from finetune.terminal.progress import byte_progress

READ_ONLY = 0o444
# left on the disk beside a base
SPARE_BYTES = 1 << 30
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md")


def add_base(source: Path, bases: Path, *, name: str | None = None, licence: str | None = None) -> BaseRecord:
    """Copy the base in source to bases/NAME-DIGEST, read-only, and write its record; returns that.

    name None: the folder's own. licence None: what its README or licence file says. A copy that was stopped goes on at
    the file where it was. Raises BaseModelError for what is no base of a served family, or holds more than data;
    UsageError where the licence is known nowhere, or another base has the name.
    """
    called = _name(source, name)
    files = check_base_folder(source)
    said, by = (licence, "--licence") if licence else _licence(source)
    known = find_base(bases, called)
    if known is not None:
        return _same_or_refuse(source, files, read_base(known))
    busy = MachineError(f"Another process brings {called} into {bases}.", "Wait until it has ended.")
    with disk_errors(bases):
        bases.mkdir(parents=True, exist_ok=True)
        with sole_writer(bases / f".{called}.lock", busy):
            partial = bases / f".{called}.partial"
            partial.mkdir(exist_ok=True)
            digests = _copy_all(source, partial, files)
            # what is published was checked itself: source could have changed meanwhile
            if check_base_folder(partial) != files:
                raise BaseModelError(f"{source} changed while it was copied.", "Run the same command again.")
            record = _record(partial, digests, name=called, licence=said, licence_from=by)
            _publish(partial, bases / record.folder_name, record)
    return record


def verify_base(folder: Path) -> BaseRecord:
    """Read every file of a base in a home. Raises BaseModelError naming the first that is missing, altered or new."""
    record = read_base(folder)
    present = {path.name for path in folder.iterdir()} - {BASE_RECORD_NAME}
    for name in sorted(present ^ {entry.name for entry in record.files}):
        raise BaseModelError(f"{folder / name} {'does not belong there' if name in present else 'is missing'}.", AGAIN)
    with byte_progress("Checking the base", sum(entry.bytes for entry in record.files)) as seen:
        for entry in record.files:
            path = folder / entry.name
            if path.is_symlink() or not path.is_file() or digest_file(path, seen=seen) != entry.sha256:
                raise BaseModelError(f"{path} was altered.", AGAIN)
    return record


def _name(source: Path, name: str | None) -> str:
    called = name if name is not None else source.resolve().name.lower()
    if not BASE_NAME.fullmatch(called):
        raise UsageError(
            f"{called!r} cannot be the name of a base: lower-case letters, digits, dot, dash and underscore are.",
            "Give one with --name, such as --name qwen3.6-27b.",
        )
    return called


def _licence(source: Path) -> tuple[str, str]:
    """What a base says of its licence, and where: the head of its README, or else a licence file, which is named."""
    if licence := readme_licence(source):
        return licence, "README.md"
    for name in LICENCE_FILES:
        if (source / name).is_file():
            return f"see {name}", name
    raise UsageError(
        f"Neither README.md nor a licence file in {source} says under which licence the base is.",
        "Look it up where the base came from, and say it: --licence apache-2.0",
    )


def _same_or_refuse(source: Path, files: tuple[str, ...], record: BaseRecord) -> BaseRecord:
    with byte_progress("Comparing the base", sum((source / name).stat().st_size for name in files)) as seen:
        found = {name: digest_file(source / name, seen=seen) for name in files}
    if found != {entry.name: entry.sha256 for entry in record.files}:
        raise UsageError(
            f"There is another base called {record.name} in this home.", "Choose a name for this one with --name."
        )
    return record


def _copy_all(source: Path, partial: Path, files: tuple[str, ...]) -> tuple[FileDigest, ...]:
    sizes = {name: (source / name).stat().st_size for name in files}
    for path in partial.iterdir():
        if path.name not in sizes:
            path.unlink()
    there = sum(path.stat().st_size for path in partial.iterdir())
    needed, free = sum(sizes.values()) - there + SPARE_BYTES, shutil.disk_usage(partial).free
    if free < needed:
        raise MachineError(
            f"The copy needs {needed / 1e9:,.1f} GB, and the disk of {partial.parent} has {free / 1e9:,.1f}.",
            "Free some space, or name another --home.",
        )
    with byte_progress("Copying the base", sum(sizes.values())) as seen:
        return tuple(
            FileDigest(name=name, bytes=sizes[name], sha256=_copy(source / name, partial / name, seen=seen))
            for name in files
        )


def _copy(source: Path, target: Path, *, seen: Callable[[int], None]) -> str:
    """Copy a file and return its SHA-256; one that an earlier try copied whole is only read again."""
    if target.is_file() and (digest := digest_file(target)) == digest_file(source, seen=seen):
        return digest
    unfinished = target.with_name(f"{target.name}.part")
    state = hashlib.sha256()
    with source.open("rb") as stream, unfinished.open("wb") as out:
        for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
            state.update(chunk)
            out.write(chunk)
            seen(len(chunk))
        out.flush()
        os.fsync(out.fileno())
    unfinished.chmod(READ_ONLY)
    unfinished.replace(target)
    return state.hexdigest()


def _record(folder: Path, files: tuple[FileDigest, ...], *, name: str, licence: str, licence_from: str) -> BaseRecord:
    digest = digest_json([[entry.name, entry.sha256] for entry in files])
    # as read_identity has it, without reading the weights a second time
    lines = sorted(f"{entry.sha256}  {entry.name}" for entry in files if _is_identity(entry.name))
    identity = identity_of(folder, digest_text("\n".join(lines)))
    return BaseRecord(
        name=name,
        digest=digest,
        identity=identity.model_copy(update={"name": f"{name}-{digest[:12]}"}),
        family=family_for(identity.model_type).name,
        licence=licence,
        licence_from=licence_from,
        files=files,
    )


def _is_identity(name: str) -> bool:
    return name == CONFIG_NAME or name.endswith(".safetensors")


def _publish(partial: Path, folder: Path, record: BaseRecord) -> None:
    write_json(partial / BASE_RECORD_NAME, record)
    (partial / BASE_RECORD_NAME).chmod(READ_ONLY)
    sync_folder(partial)
    partial.rename(folder)
    sync_folder(folder.parent)
