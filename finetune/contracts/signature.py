"""Whether a key that is trusted signed an adapter, and signed all of it.

The tool of OpenSSF model signing verifies what is signed here, and what it signs is verified here. Keys are those of
ECDSA over P-256, and nothing else: docs/decisions/026-signatures.md says why.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME, ADAPTER_SIGNATURE_NAME, AdapterManifest
from finetune.contracts.errors import SignatureError
from finetune.contracts.io import digest_file
from finetune.contracts.plain_files import NotPlainError, parse_object, read_plain
from finetune.contracts.signature_form import Bundle, Statement, digest_of_all, signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

CURVE = "secp256r1"
MAX_SIGNATURE_BYTES = 1 << 20
SIGN_HINT = "Have it signed again: `finetune adapter sign ADAPTER --key KEY.pem`, after its last evaluation."
KEY_HINT = "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one: see docs/signing.md."


ForeignT = TypeVar("ForeignT", bound=BaseModel)


@dataclass(frozen=True)
class TrustedKey:
    """A public key. fingerprint is the SHA-256 of its PEM file as openssl writes it: what `sha256sum` says of that."""

    fingerprint: str
    key: "EllipticCurvePublicKey"


def load_trusted_key(path: Path) -> TrustedKey:
    """The public key in a PEM file. Raises SignatureError for a file that holds none, or one of another kind."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(read_plain(path, max_bytes=MAX_SIGNATURE_BYTES))
    except FileNotFoundError as cause:
        raise SignatureError(f"{path} does not exist.", KEY_HINT) from cause
    except Exception as cause:
        # the library lets errors of its own, of OpenSSL and of Python through
        raise SignatureError(f"{path} holds no public key in PEM.", KEY_HINT) from cause
    return trusted_key(key, path)


def trusted_key(key: object, path: Path) -> TrustedKey:
    """key, which was read from path, with its fingerprint. Raises SignatureError unless it is ECDSA over P-256."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != CURVE:
        raise SignatureError(f"The key in {path} is not one of ECDSA over the curve P-256.", KEY_HINT)
    text = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return TrustedKey(hashlib.sha256(text).hexdigest(), key)


def file_digests(folder: Path, manifest: AdapterManifest) -> dict[str, str]:
    """SHA-256 by name of each file that a signature is over; those of manifest were checked by read_adapter."""
    return {
        ADAPTER_MANIFEST_NAME: digest_file(folder / ADAPTER_MANIFEST_NAME),
        **{entry.name: entry.sha256 for entry in manifest.files},
    }


def verify_signature(folder: Path, manifest: AdapterManifest, keys: Sequence[TrustedKey]) -> str:
    """The fingerprint of the one of keys that signed the adapter in folder, which read_adapter found whole.

    Raises SignatureError without a signature, for one of another key, and where it is not over these very files.
    """
    path = folder / ADAPTER_SIGNATURE_NAME
    bundle = _parsed(path, _content(path), Bundle)
    payload = _decoded(path, bundle.dsse_envelope.payload)
    signature = _decoded(path, bundle.dsse_envelope.signatures[0].sig)
    hint = bundle.verification_material.public_key.hint
    candidates = [key for key in keys if hint in (None, "", key.fingerprint)]
    signer = _signer(payload, signature, candidates)
    if signer is None:
        what = "is by none of them, or was altered" if candidates else f"names another, {(hint or '')[:12]!r}"
        raise SignatureError(f"{path} is of no key that is trusted here: it {what}.", SIGN_HINT)
    _check_files(path, _parsed(path, payload, Statement), file_digests(folder, manifest))
    return signer.fingerprint


def _content(path: Path) -> bytes:
    try:
        return read_plain(path, max_bytes=MAX_SIGNATURE_BYTES)
    except FileNotFoundError as cause:
        raise SignatureError(f"{path.parent} is not signed.", SIGN_HINT) from cause
    except NotPlainError as cause:
        raise SignatureError(f"{path} {cause}.", SIGN_HINT) from cause


def _parsed(path: Path, content: bytes, kind: type[ForeignT]) -> ForeignT:
    try:
        return kind.model_validate(parse_object(content))
    except NotPlainError as cause:
        raise SignatureError(f"{path} {cause}.", SIGN_HINT) from cause
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SignatureError(
            f"{path} is no signature of the form that is read here: {where}: {first['msg']}.", SIGN_HINT
        ) from cause


def _decoded(path: Path, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as cause:
        raise SignatureError(f"{path} holds no base64 where it belongs.", SIGN_HINT) from cause


def _signer(payload: bytes, signature: bytes, keys: Iterable[TrustedKey]) -> TrustedKey | None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    for key in keys:
        try:
            key.key.verify(signature, signed_bytes(payload), ECDSA(SHA256()))
        except InvalidSignature:
            continue
        return key
    return None


def _check_files(path: Path, statement: Statement, found: Mapping[str, str]) -> None:
    resources = statement.predicate.resources
    signed = {resource.name: resource.digest for resource in resources}
    if len(signed) < len(resources):
        raise SignatureError(f"{path} names a file twice.", SIGN_HINT)
    if statement.subject[0].digest.get("sha256") != digest_of_all(resource.digest for resource in resources):
        raise SignatureError(f"{path} contradicts itself: its files do not make up its subject.", SIGN_HINT)
    for name in sorted({*signed, *found}):
        if name not in found:
            raise SignatureError(f"{path} is over {name[:120]!r}, which is not here.", SIGN_HINT)
        if name not in signed:
            raise SignatureError(f"{path.parent / name} came after the signature, which is not over it.", SIGN_HINT)
        if signed[name] != found[name]:
            raise SignatureError(f"{path.parent / name} was altered after it was signed.", SIGN_HINT)
