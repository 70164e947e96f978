"""Whose adapters are taken here: the policy of a home or of a server, a file that a person writes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from finetune.contracts.adapter import ADAPTER_SIGNATURE_NAME, AdapterManifest
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import SignatureError
from finetune.contracts.signature import TrustedKey, load_trusted_key, verify_signature
from finetune.contracts.yaml_file import load_yaml_model

POLICY_HINT = "See docs/signing.md. Until it is whole, no adapter is taken."
REVOKED_HINT = "It is revoked for good: train or sign another one, and load that."
KEY_SUFFIX = ".pem"
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class TrustPolicy(Contract):
    """keys are PEM files with public keys, named from the policy's folder; revoked_keys are fingerprints of such.

    revoked_adapters are SHA-256 of weights. Without require_signature an adapter may come unsigned; one that has a
    signature needs a good one all the same.
    """

    require_signature: bool
    keys: tuple[str, ...] = ()
    revoked_keys: tuple[Digest, ...] = ()
    revoked_adapters: tuple[Digest, ...] = ()

    @model_validator(mode="after")
    def _takes_somebody_s(self) -> "TrustPolicy":
        # as a file that is half written reads, which would take all off that is served
        if self.require_signature and not self.keys:
            raise ValueError("require_signature needs keys: else no adapter would ever be taken")
        return self


@dataclass(frozen=True, slots=True)
class Trust:
    """A policy with the keys that it names, read from path."""

    path: Path
    policy: TrustPolicy
    keys: Sequence[TrustedKey]

    def check(self, folder: Path, manifest: AdapterManifest) -> str | None:
        """The fingerprint of the key that signed the adapter in folder, which read_adapter found whole.

        None for one that is not signed where that is allowed. Raises SignatureError for one that is not to be taken.
        """
        if manifest.digests.weights in self.policy.revoked_adapters:
            raise SignatureError(f"The adapter {manifest.adapter_id} was revoked by {self.path.name}.", REVOKED_HINT)
        signature = folder / ADAPTER_SIGNATURE_NAME
        if not self.policy.require_signature and not os.path.lexists(signature):
            return None
        signer = verify_signature(folder, manifest, self.keys)
        if signer in self.policy.revoked_keys:
            raise SignatureError(
                f"{signature} was made with the key {signer[:12]}, which was revoked by {self.path.name}.", REVOKED_HINT
            )
        return signer


def load_trust(path: Path) -> Trust:
    """The policy in a YAML file, or the one of who trusts nobody but the one public key in a .pem file.

    Raises RecipeError with file and line of every mistake, SignatureError for a key that cannot be used.
    """
    if path.suffix == KEY_SUFFIX:
        return Trust(path, TrustPolicy(require_signature=True, keys=(path.name,)), (load_trusted_key(path),))
    policy = load_yaml_model(path, TrustPolicy, hint=POLICY_HINT)
    return Trust(path, policy, tuple(load_trusted_key(path.parent / name) for name in policy.keys))


class TrustFile:
    """A policy that is read again whenever it is asked for, so that a revocation holds from the next look on.

    required: it must be there. Else there is none as long as there was none; once seen, it must stay.
    """

    def __init__(self, path: Path, *, required: bool = False) -> None:
        self._path = path
        self._required = required

    def read(self) -> Trust | None:
        """The policy as it is now, None where there is none. Raises as load_trust does."""
        # a link that leads nowhere is a mistake, and not none
        if not self._required and not os.path.lexists(self._path):
            return None
        self._required = True
        return load_trust(self._path)


def check_trusted(trust: TrustFile, folder: Path, manifest: AdapterManifest) -> str | None:
    """Trust.check by the policy as it is now; None also without one. Raises as read does, too."""
    found = trust.read()
    return found.check(folder, manifest) if found else None
