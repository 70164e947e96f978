"""What a signature says and looks like in a file: the form of OpenSSF model signing v1.0.

A Sigstore bundle around a DSSE envelope, whose payload is an in-toto statement with the SHA-256 of each file.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from finetune.contracts.adapter import ADAPTER_SIGNATURE_NAME

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"


class _Foreign(BaseModel):
    """A part of a format that others make, too: what is not looked at may be there."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class PublicKeyHint(_Foreign):
    """Which key it was; None in signatures of early tools."""

    hint: str | None = None


class VerificationMaterial(_Foreign):
    """How one finds the key. Certificates and transparency logs are not for a place without a network."""

    public_key: PublicKeyHint


class EnvelopeSignature(_Foreign):
    """Base64 of the signature in DER."""

    sig: str


class Envelope(_Foreign):
    """Base64 of what was signed, and by whom: one signature, since nothing says which of several would count."""

    payload: str
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: tuple[EnvelopeSignature, ...] = Field(min_length=1, max_length=1)


class Bundle(_Foreign):
    """The file."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: VerificationMaterial
    dsse_envelope: Envelope


class Subject(_Foreign):
    """The adapter as a whole: sha256 is over the digests of its files, in the order of the resources."""

    name: str
    digest: Mapping[str, str]


class Resource(BaseModel):
    """A file and its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    algorithm: Literal["sha256"]
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class Serialization(BaseModel):
    """How the files were digested. What was ignored is not asked: here no file goes without a digest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: Literal[False]


class Predicate(_Foreign):
    """What is said of the subject."""

    serialization: Serialization
    resources: tuple[Resource, ...]


class Statement(_Foreign):
    """What is signed."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1, max_length=1)
    predicate_type: Literal["https://model_signing/signature/v1.0"]
    predicate: Predicate


def statement_of(name: str, digests: Mapping[str, str]) -> bytes:
    """What is signed of an adapter called name, whose files have these digests."""
    resources = [{"name": file, "algorithm": "sha256", "digest": digests[file]} for file in sorted(digests)]
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest_of_all(resource["digest"] for resource in resources)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [ADAPTER_SIGNATURE_NAME],
            },
            "resources": resources,
        },
    }
    return json.dumps(document, indent=2).encode()


def bundle_of(payload: bytes, signature: bytes, fingerprint: str) -> dict[str, JsonValue]:
    """The document of a signature file."""
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": fingerprint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def signed_bytes(payload: bytes) -> bytes:
    """The pre-authentication encoding of DSSE: what the signature is over."""
    return b" ".join([f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)}".encode(), payload])


def digest_of_all(digests: Iterable[str]) -> str:
    """What a statement says of its subject: SHA-256 over the digests of the files, as bytes, in their order."""
    return hashlib.sha256(b"".join(bytes.fromhex(one) for one in digests)).hexdigest()
