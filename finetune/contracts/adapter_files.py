"""Read an adapter folder and prove that its files are the ones its manifest names, before anything is loaded."""

import re
import stat
from collections.abc import Sequence
from pathlib import Path

from finetune.contracts.adapter import (
    ADAPTER_CONFIG_NAME,
    ADAPTER_MANIFEST_NAME,
    ADAPTER_SIGNATURE_NAME,
    AdapterManifest,
    BaseIdentity,
    FileDigest,
)
from finetune.contracts.code_references import refuse_code_in
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import digest_file, parse_model, write_json
from finetune.contracts.plain_files import NotPlainError, parse_object, read_plain
from finetune.contracts.seal import check_seal, sealed

# Pickled files run code when they are opened, so nothing but these may lie in an adapter's folder.
ALLOWED_SUFFIXES = frozenset({".json", ".safetensors", ".md"})
# a run is looked for under its id, and an adapter put under its own: neither may lead elsewhere
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
HINT = "Export it again: `finetune adapter export RUN --out DIR`; or copy the whole folder again from its origin."


def list_files(folder: Path, *, but: str = ADAPTER_MANIFEST_NAME) -> tuple[FileDigest, ...]:
    """Digests of each file in a folder but its manifest, called but, and the slot of its signature; in name order."""
    return tuple(
        FileDigest(name=path.name, bytes=path.stat().st_size, sha256=digest_file(path))
        for path in sorted(folder.iterdir())
        if path.name not in (but, ADAPTER_SIGNATURE_NAME)
    )


def read_manifest(folder: Path) -> AdapterManifest:
    """The manifest of folder alone; no other file is looked at.

    Raises AdapterError when it is missing, altered, or can be read in two ways, and for an id that is no plain name.
    """
    path = folder / ADAPTER_MANIFEST_NAME
    try:
        content = read_plain(path)
        parse_object(content)
    except FileNotFoundError as cause:
        raise AdapterError(f"{path} does not exist.", HINT) from cause
    except NotPlainError as cause:
        raise AdapterError(f"{path} is damaged: it {cause}.", HINT) from cause
    manifest = parse_model(content, AdapterManifest, path=path, error=AdapterError, hint=HINT)
    check_seal(manifest, path, error=AdapterError, hint=HINT)
    for what, text in (("adapter_id", manifest.adapter_id), ("run_id", manifest.run_id)):
        if not PLAIN_NAME.fullmatch(text):
            raise AdapterError(f"{path}: its {what} is no plain name: {text[:120]!r}.", HINT)
    return manifest


def write_manifest(folder: Path, manifest: AdapterManifest) -> AdapterManifest:
    """Seal manifest and write it into folder; returns what was written."""
    found = sealed(manifest)
    write_json(folder / ADAPTER_MANIFEST_NAME, found)
    return found


def read_adapter(folder: Path) -> AdapterManifest:
    """The manifest of folder after each file's size and SHA-256 were checked.

    Raises AdapterError naming the first file that is missing, altered, not in the manifest, or that refers to code.
    """
    check_entries(folder)
    manifest = read_manifest(folder)
    what = f"the adapter {manifest.adapter_id}"
    check_files(folder, manifest.files, what=what, apart=(ADAPTER_MANIFEST_NAME, ADAPTER_SIGNATURE_NAME))
    if (folder / ADAPTER_CONFIG_NAME).is_file():
        refuse_code_in(folder / ADAPTER_CONFIG_NAME, error=AdapterError, hint=HINT)
    return manifest


def check_entries(folder: Path, *, max_bytes: int | None = None) -> None:
    """Raise AdapterError naming an entry that is no plain file of a kind that an adapter has, or for too many bytes.

    A file with further names elsewhere is as good as one without: its bytes are what is checked, and copied.
    """
    num_bytes = 0
    for path in sorted(folder.iterdir()):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or path.suffix not in ALLOWED_SUFFIXES:
            raise AdapterError(
                f"{path} may not lie in an adapter: plain {', '.join(sorted(ALLOWED_SUFFIXES))} files only.", HINT
            )
        num_bytes += status.st_size
    if max_bytes is not None and num_bytes > max_bytes:
        raise AdapterError(
            f"{folder} has {num_bytes} bytes, {max_bytes} is the limit here.",
            "Train with a lower lora.rank or fewer targets.",
        )


def check_files(
    folder: Path, files: Sequence[FileDigest], *, what: str, apart: Sequence[str], hint: str = HINT
) -> None:
    """Raise AdapterError naming the first entry of folder that is missing, altered, or neither in files nor apart."""
    expected = {entry.name: entry for entry in files}
    if len(expected) < len(files):
        raise AdapterError(f"The manifest of {what} names a file twice.", hint)
    present = {path.name for path in folder.iterdir()} - set(apart)
    for name in sorted(present - set(expected)):
        raise AdapterError(f"{folder / name} is not part of {what}.", hint)
    for name, entry in sorted(expected.items()):
        path = folder / name
        # a name with a slash lies elsewhere
        if name not in present or not path.is_file():
            raise AdapterError(f"{path} is missing from {what}.", hint)
        size = path.stat().st_size
        if size != entry.bytes:
            raise AdapterError(
                f"{path} has {size} bytes, its manifest says {entry.bytes}: truncated or replaced.", hint
            )
        if digest_file(path) != entry.sha256:
            raise AdapterError(f"{path} does not have the digest that its manifest names: it was altered.", hint)


def check_base(manifest: AdapterManifest, base: BaseIdentity, *, chat_template: str, tokenizer: str) -> None:
    """Raise AdapterError unless the adapter was made for this base, chat template and tokenizer (digests)."""
    pairs = (
        ("base model", manifest.base.digest, base.digest),
        ("chat template", manifest.digests.chat_template, chat_template),
        ("tokenizer", manifest.digests.tokenizer, tokenizer),
    )
    for what, expected, found in pairs:
        if expected != found:
            raise AdapterError(
                f"The adapter {manifest.adapter_id} was made for {manifest.base.name}: "
                f"the {what} has digest {found[:12]}, the adapter needs {expected[:12]}.",
                "Load it over the base it was trained on.",
            )
