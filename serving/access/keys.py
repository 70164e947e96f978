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
from serving.access.audit_files import AUDIT_NAME, note_key_change
from serving.access.scopes import DEFAULT_GROUP, NO_LIMITS, Caller, Limits, Scope
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


Limit = Annotated[int, Field(ge=1)]


class StoredKey(Contract):
    """A key without its secret. Times are in seconds since 1970; None: never. adapters empty: the base alone.

    groups are the default's in keys from before there were any. requests_per_minute, tokens_per_day and max_concurrent
    None: no limit of its own. replaced_by is the id of the key of the same name that it was rotated to.
    """

    id: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * ID_BYTES}}}$")]
    name: Annotated[str, Field(pattern=f"^{KEY_NAME}$")]
    secret_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    adapters: Annotated[tuple[Annotated[str, Field(pattern=f"^{PATTERN}$")], ...], Field(max_length=MAX_PATTERNS)]
    groups: Annotated[tuple[Annotated[str, Field(pattern=f"^{GROUP}$")], ...], Field(max_length=MAX_GROUPS)] = (
        DEFAULT_GROUP,
    )
    requests_per_minute: Limit | None = None
    tokens_per_day: Limit | None = None
    max_concurrent: Limit | None = None
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    replaced_by: str | None = None

    def state(self, now: float) -> str:
        """valid, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "valid"

    def caller(self) -> Caller:
        """Who asks with this key."""
        limits = Limits(self.requests_per_minute, self.tokens_per_day, self.max_concurrent)
        return Caller(
            self.name, frozenset(self.scopes), self.adapters, limits, groups=frozenset(self.groups), id=self.id
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
        limits: Limits = NO_LIMITS,
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
                requests_per_minute=limits.requests_per_minute,
                tokens_per_day=limits.tokens_per_day,
                max_concurrent=limits.max_concurrent,
                created_at=now,
                expires_at=None if valid_seconds is None else now + valid_seconds,
            )
            self._note("key created", key)
            self._write((*keys, key))
        return key, _text(key, secret)

    def rotate(self, name: str, *, overlap_seconds: int) -> tuple[StoredKey, str]:
        """Give the key of that name a new secret; its new record, and the key itself, which is kept nowhere.

        It may do what the old one may and is valid as long anew. The old one goes on for overlap_seconds, 0: it is over
        at once. Raises KeyFileError when no valid one has the name.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        now = int(time.time())
        with self._lock():
            keys = self.read()
            old = self._valid(keys, name, now)
            lifetime = None if old[-1].expires_at is None else old[-1].expires_at - old[-1].created_at
            new = old[-1].model_copy(
                update={
                    "id": secrets.token_hex(ID_BYTES),
                    "secret_digest": secret_digest(secret),
                    "created_at": now,
                    "expires_at": None if lifetime is None else now + lifetime,
                }
            )
            self._note("key rotated", new)
            ends = {
                key.id: key.model_copy(
                    update={"expires_at": _earlier(key.expires_at, now + overlap_seconds), "replaced_by": new.id}
                )
                for key in old
            }
            self._write((*(ends.get(key.id, key) for key in keys), new))
        return new, _text(new, secret)

    def revoke(self, name: str) -> StoredKey:
        """End the key of that name, and those that it was rotated from; its record.

        Raises KeyFileError when no valid one has the name.
        """
        now = int(time.time())
        with self._lock():
            keys = self.read()
            revoked = {key.id: key.model_copy(update={"revoked_at": now}) for key in self._valid(keys, name, now)}
            self._write(tuple(revoked.get(key.id, key) for key in keys))
            newest = list(revoked.values())[-1]
            # a log that is damaged keeps nobody from ending a key
            self._note("key revoked", newest)
        return newest

    def _valid(self, keys: tuple[StoredKey, ...], name: str, now: int) -> list[StoredKey]:
        """The valid keys of that name, the newest last: more than one while a rotation overlaps."""
        found = [key for key in keys if key.name == name and key.state(now) == "valid"]
        if not found:
            raise KeyFileError(f"There is no valid key {name} in {self.path}.", "`finetune serve key list` shows all.")
        return found

    def _lock(self) -> AbstractContextManager[None]:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        busy = MachineError(f"Another command changes {self.path} right now.", "Type the same once more.")
        return sole_writer(self.path.with_suffix(".lock"), busy)

    def _note(self, action: str, key: StoredKey) -> None:
        note_key_change(self.path.parent / AUDIT_NAME, action, key_name=key.name, key_id=key.id)

    def _write(self, keys: tuple[StoredKey, ...]) -> None:
        write_bytes(self.path, to_json(KeyList(keys=keys)).encode(), mode=PRIVATE_MODE)


def secret_digest(secret: str) -> str:
    """What is stored of a key's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _text(key: StoredKey, secret: str) -> str:
    return f"{PREFIX}_{key.id}_{secret}"


def _earlier(first: int | None, second: int) -> int:
    return second if first is None else min(first, second)
