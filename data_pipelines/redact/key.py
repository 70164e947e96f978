"""The key of placeholder tags and author hashes."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from data_pipelines.config import RedactSection
from finetune.contracts.errors import InputError

MIN_KEY_BYTES = 16


def redaction_key(section: RedactSection, own: Callable[[], bytes]) -> bytes:
    """The content of key_file, else the key that own gives.

    Raises InputError when key_file cannot be read or is shorter than 16 bytes.
    """
    return own() if section.key_file is None else _read(section.key_file)


def key_name(key: bytes) -> str:
    """Tells keys apart without telling the key."""
    return hashlib.sha256(b"finetune redaction key name\0" + key).hexdigest()[:16]


def _read(path: Path) -> bytes:
    hint = f"Make one: head -c 32 /dev/urandom > {path} && chmod 600 {path}"
    try:
        key = path.read_bytes()
    except OSError as cause:
        raise InputError(f"The key file {path} cannot be read: {cause.strerror}.", hint) from cause
    if len(key) < MIN_KEY_BYTES:
        raise InputError(f"The key file {path} holds {len(key)} bytes; {MIN_KEY_BYTES} are the least.", hint)
    return key
