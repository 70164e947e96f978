"""A manifest names the digests of other files; its seal is the digest of all else that it says itself.

It finds damage, not intent: who alters a manifest can seal it again. Against that there is a signature.
"""

import json
from pathlib import Path
from typing import Protocol, TypeVar, cast

from pydantic import BaseModel

from finetune.contracts.errors import PlatformError
from finetune.contracts.io import digest_json


class Sealed(Protocol):
    """A manifest with a seal, "" where it was written before there were any."""

    @property
    def seal(self) -> str: ...


SealedT = TypeVar("SealedT", bound=Sealed)


def sealed(manifest: SealedT) -> SealedT:
    """The same manifest with a seal that fits."""
    model = cast(BaseModel, manifest)
    return cast(SealedT, model.model_copy(update={"seal": _seal_of(model)}))


def check_seal(manifest: Sealed, path: Path, *, error: type[PlatformError], hint: str) -> None:
    """Raise error unless the manifest that was read from path says what it said when it was sealed.

    The file is asked, not the model: a field that a contract gained since then is not in it.
    """
    if manifest.seal and manifest.seal != digest_json({**json.loads(path.read_bytes()), "seal": ""}):
        raise error(f"{path} does not have the digest that it names itself: it was altered.", hint)


def _seal_of(manifest: BaseModel) -> str:
    return digest_json(manifest.model_copy(update={"seal": ""}))
