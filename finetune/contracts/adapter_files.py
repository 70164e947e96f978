"""Read an adapter folder and prove that its files are the ones its manifest names, before anything is loaded."""

from pathlib import Path

from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME, AdapterManifest, BaseIdentity, FileDigest
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import digest_file, read_model

HINT = "Export it again: `finetune adapter export RUN --out DIR`; or copy the whole folder again from its origin."


def list_files(folder: Path) -> tuple[FileDigest, ...]:
    """Digests of each file in an adapter folder but its manifest, in name order."""
    return tuple(
        FileDigest(name=path.name, bytes=path.stat().st_size, sha256=digest_file(path))
        for path in sorted(folder.iterdir())
        if path.name != ADAPTER_MANIFEST_NAME
    )


def read_adapter(folder: Path) -> AdapterManifest:
    """The manifest of folder after each file's size and SHA-256 were checked.

    Raises AdapterError naming the first file that is missing, altered, or not in the manifest.
    """
    manifest = read_model(folder / ADAPTER_MANIFEST_NAME, AdapterManifest, error=AdapterError, hint=HINT)
    expected = {entry.name: entry for entry in manifest.files}
    present = {path.name for path in folder.iterdir()} - {ADAPTER_MANIFEST_NAME}
    for name in sorted(present - set(expected)):
        raise AdapterError(f"{folder / name} is not part of the adapter {manifest.adapter_id}.", HINT)
    for name, entry in sorted(expected.items()):
        path = folder / name
        if not path.is_file():
            raise AdapterError(f"{path} is missing from the adapter {manifest.adapter_id}.", HINT)
        size = path.stat().st_size
        if size != entry.bytes:
            raise AdapterError(
                f"{path} has {size} bytes, its manifest says {entry.bytes}: truncated or replaced.", HINT
            )
        if digest_file(path) != entry.sha256:
            raise AdapterError(f"{path} does not have the digest that its manifest names: it was altered.", HINT)
    return manifest


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
