"""The key of placeholder tags and author hashes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.config import RedactSection
from finetune.contracts.errors import InputError

MIN_KEY_BYTES = 16


def redaction_key(section: RedactSection, heads: Sequence[bytes]) -> bytes:
    """The content of key_file, else a digest of the raw head commits of the sources.

    Raises InputError when key_file cannot be read or is shorter than 16 bytes.
    """
    if section.key_file is None:
        return hashlib.sha256(b"finetune redaction key\0" + b"\0".join(heads)).digest()
    return _read(section.key_file)


def _read(path: Path) -> bytes:
    hint = f"Make one: head -c 32 /dev/urandom > {path} && chmod 600 {path}"
    try:
        key = path.read_bytes()
    except OSError as cause:
        raise InputError(f"The key file {path} cannot be read: {cause.strerror}.", hint) from cause
    if len(key) < MIN_KEY_BYTES:
        raise InputError(f"The key file {path} holds {len(key)} bytes; {MIN_KEY_BYTES} are the least.", hint)
    return key
