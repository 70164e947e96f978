"""Sign an adapter with a private key that is at hand for this alone. Light: no model library is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.contracts.adapter import ADAPTER_SIGNATURE_NAME, AdapterManifest
from finetune.contracts.errors import SignatureError
from finetune.contracts.io import write_json
from finetune.contracts.plain_files import read_plain
from finetune.contracts.signature import KEY_HINT, MAX_SIGNATURE_BYTES, file_digests, trusted_key
from finetune.contracts.signature_form import bundle_of, signed_bytes, statement_of
from finetune.contracts.sound_adapter import check_sound

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def sign_adapter(folder: Path, key: Path, *, password: Callable[[], str]) -> tuple[AdapterManifest, str]:
    """Sign all files of the adapter in folder, in place of a signature that it has; its manifest and the fingerprint.

    key is a PEM file with a private key, and password is asked only where that is encrypted. Raises AdapterError for an
    adapter that is not sound, SignatureError for a key that cannot be used.
    """
    manifest = check_sound(folder)
    private = _load_private(key, password)
    public = trusted_key(private.public_key(), key)
    payload = statement_of(manifest.adapter_id, file_digests(folder, manifest))
    write_json(folder / ADAPTER_SIGNATURE_NAME, bundle_of(payload, _signature(private, payload), public.fingerprint))
    return manifest, public.fingerprint


def _signature(key: "EllipticCurvePrivateKey", payload: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    return key.sign(signed_bytes(payload), ECDSA(SHA256()))


def _load_private(path: Path, password: Callable[[], str]) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    try:
        content = read_plain(path, max_bytes=MAX_SIGNATURE_BYTES)
    except (OSError, ValueError) as cause:
        raise SignatureError(f"{path} cannot be read as the file of a private key: {cause}.", KEY_HINT) from cause
    key = _parsed(path, content, password=None)
    if key is None:
        key = _parsed(path, content, password=password().encode())
    if not isinstance(key, EllipticCurvePrivateKey):
        raise SignatureError(f"The key in {path} is not one of ECDSA over the curve P-256.", KEY_HINT)
    return key


def _parsed(path: Path, content: bytes, *, password: bytes | None) -> object | None:
    """The private key in content; None where it is encrypted and no password was given."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(content, password)
    except TypeError:
        # encrypted, and no password was given
        return None
    except Exception as cause:
        what = "holds no private key in PEM" if password is None else "does not open with this password"
        # not the library's words: they may quote what it read
        raise SignatureError(f"{path} {what}.", KEY_HINT) from cause
