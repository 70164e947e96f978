"""The keys of a home: one file, readable by its owner alone, that holds what is needed to recognize a key and no key.

A key is 256 random bits, and what is stored is their SHA-256. Slow hashes such as scrypt make guessing dear, which
passwords need, since people choose them; nobody can try a noticeable part of 2^256 values at any speed. A slow hash
would cost each request a tenth of a second, and let anyone without a key keep the processor busy. A key also carries
the id of its record, which is no secret, so that one digest is compared and not all of them.
"""

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import MachineError
from finetune.contracts.io import PRIVATE_MODE, disk_errors, read_model, sole_writer, to_json, write_bytes
from serving.access.scopes import DEFAULT_GROUP, Caller, Scope
from serving.errors import KeyFileError

KEYS_NAME = "keys.json"
PREFIX = "ftk"
SECRET_BYTES = 32
ID_BYTES = 6
TOKEN = re.compile(rf"{PREFIX}_(?P<id>[0-9a-f]{{{2 * ID_BYTES}}})_(?P<secret>[A-Za-z0-9_-]{{43}})", re.ASCII)
KEY_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
PATTERN = r"[A-Za-z0-9._*?-]{1,128}"
MAX_PATTERNS = 64
# any name that a pipeline file may give a source as its visibility, on one line
GROUP = r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?"
MAX_GROUPS = 256
HINT = "Nobody is let in until it is repaired. Put a copy of it back, or remove it and create the keys anew."


class StoredKey(Contract):
    """A key without its secret. Times are in seconds since 1970; None: never. adapters empty: the base alone.

    groups are the default's in keys from before there were any. requests_per_minute None: no limit of its own.
    """

    id: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * ID_BYTES}}}$")]
    name: Annotated[str, Field(pattern=f"^{KEY_NAME}$")]
    secret_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    adapters: Annotated[tuple[Annotated[str, Field(pattern=f"^{PATTERN}$")], ...], Field(max_length=MAX_PATTERNS)]
    groups: Annotated[tuple[Annotated[str, Field(pattern=f"^{GROUP}$")], ...], Field(max_length=MAX_GROUPS)] = (
        DEFAULT_GROUP,
    )
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def state(self, now: float) -> str:
        """valid, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "valid"

    def caller(self) -> Caller:
        """Who asks with this key."""
        return Caller(
            self.name, frozenset(self.scopes), self.adapters, self.requests_per_minute, frozenset(self.groups)
        )


class KeyList(Contract):
    """All keys that were ever made, the newest last; those that are over stay, so that the list never becomes empty."""

    keys: Annotated[tuple[StoredKey, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _once(self) -> "KeyList":
        if len({key.id for key in self.keys}) < len(self.keys):
            raise ValueError("an id is there twice")
        return self


@dataclass(frozen=True)
class KeyFile:
    """The file in the home. It is replaced as a whole, and running servers see that."""

    path: Path

    @classmethod
    def within(cls, folder: Path) -> "KeyFile":
        """The one of the home whose folder of what is served is folder."""
        return cls(folder / KEYS_NAME)

    def read(self) -> tuple[StoredKey, ...]:
        """All keys, none where there is no file. Raises KeyFileError for one that is damaged, empty or not readable."""
        try:
            if not os.path.lexists(self.path):
                return ()
            return read_model(self.path, KeyList, error=KeyFileError, hint=HINT).keys
        except OSError as cause:
            raise KeyFileError(f"{self.path} cannot be read: {cause.strerror}.", HINT) from cause

    def create(
        self,
        name: str,
        *,
        scopes: Iterable[Scope],
        adapters: Iterable[str],
        groups: Iterable[str] = (DEFAULT_GROUP,),
        valid_seconds: int | None = None,
        requests_per_minute: int | None = None,
    ) -> tuple[StoredKey, str]:
        """Add a key; its record, and the key itself, which is kept nowhere.

        valid_seconds None: until it is revoked. Raises KeyFileError when a valid key has that name.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        now = int(time.time())
        with self._lock():
            keys = self.read()
            if any(key.name == name and key.state(now) == "valid" for key in keys):
                raise KeyFileError(
                    f"There is a key {name} already.", "Choose another name, or type: finetune serve key revoke " + name
                )
            key = StoredKey(
                id=secrets.token_hex(ID_BYTES),
                name=name,
                secret_digest=secret_digest(secret),
                scopes=tuple(scope for scope in Scope if scope in set(scopes)),
                adapters=tuple(adapters),
                groups=tuple(groups),
                requests_per_minute=requests_per_minute,
                created_at=now,
                expires_at=None if valid_seconds is None else now + valid_seconds,
            )
            self._write((*keys, key))
        return key, f"{PREFIX}_{key.id}_{secret}"

    def revoke(self, name: str) -> StoredKey:
        """End the key of that name; its record. Raises KeyFileError when no valid one has it."""
        now = int(time.time())
        with self._lock():
            keys = self.read()
            found = next((key for key in keys if key.name == name and key.state(now) == "valid"), None)
            if found is None:
                raise KeyFileError(
                    f"There is no valid key {name} in {self.path}.", "`finetune serve key list` shows all."
                )
            revoked = found.model_copy(update={"revoked_at": now})
            self._write(tuple(revoked if key is found else key for key in keys))
        return revoked

    def _lock(self) -> AbstractContextManager[None]:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        busy = MachineError(f"Another command changes {self.path} right now.", "Type the same once more.")
        return sole_writer(self.path.with_suffix(".lock"), busy)

    def _write(self, keys: tuple[StoredKey, ...]) -> None:
        write_bytes(self.path, to_json(KeyList(keys=keys)).encode(), mode=PRIVATE_MODE)


def secret_digest(secret: str) -> str:
    """What is stored of a key's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
