"""The keys of a home as a running server sees them."""

import hmac
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetune.contracts.errors import InputError
from serving.access.keys import HINT, TOKEN, KeyFile, StoredKey, secret_digest
from serving.access.scopes import OPERATOR, Caller
from serving.errors import KeyRefusedError

LOGGER = logging.getLogger("serving")
# What the secret of an unknown id is compared with, so that it takes as long as a known one
NO_DIGEST = "0" * 64
Stamp = tuple[int, int, int, int]


class Keyring:
    """Says who asks. The file is looked at with each request and read again when it was replaced.

    Without a file, whoever reaches the port is its operator. Once there was one, that is over: where it is damaged,
    empty, unreadable or gone, nobody is let in, and the log says so. path None: no home, so no keys. Raises
    KeyFileError for a file that is damaged at the start.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self._keys: Mapping[str, StoredKey] | None = None
        self._told = ""
        if path and (keys := KeyFile(path).read()):
            self._keys = _by_id(keys)

    @property
    def is_open(self) -> bool:
        """Whether no key is needed."""
        return self._current() is None

    def caller(self, authorization: Sequence[str]) -> Caller:
        """Who asks, by the values of the request's Authorization headers. Raises KeyRefusedError."""
        keys = self._current()
        if keys is None:
            return OPERATOR
        found = TOKEN.fullmatch(bearer(authorization))
        if found is None:
            raise KeyRefusedError("no key" if not authorization else "no key of this home")
        key = keys.get(found["id"])
        is_same = hmac.compare_digest(secret_digest(found["secret"]), key.secret_digest if key else NO_DIGEST)
        if key is None:
            raise KeyRefusedError("unknown key", key_id=found["id"])
        state = key.state(time.time()) if is_same else "wrong secret"
        if state != "valid":
            raise KeyRefusedError(state, caller=key.name, key_id=key.id)
        return key.caller()

    def _current(self) -> Mapping[str, StoredKey] | None:
        """The keys by id; None while there has never been a file."""
        if self._path is None:
            return None
        try:
            stamp = _stamp_of(self._path)
            if stamp is None and self._keys is None:
                return None
            if stamp is None or stamp != self._stamp:
                self._keys = _by_id(KeyFile(self._path).read())
        except (OSError, InputError) as error:
            self._lock(str(error))
        else:
            self._stamp, self._told = stamp, "" if self._keys else self._told
            if not self._keys:
                self._lock(f"{self._path} is gone. {HINT}")
        return self._keys

    def _lock(self, problem: str) -> None:
        self._keys, self._stamp = {}, None
        if problem != self._told:
            LOGGER.error("Nobody is let in: %s", problem)
        self._told = problem


def bearer(authorization: Sequence[str]) -> str:
    """What a request brings as its bearer's, "" where it is nothing or not one thing."""
    scheme, _, token = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def _by_id(keys: Sequence[StoredKey]) -> Mapping[str, StoredKey]:
    return {key.id: key for key in keys}


def _stamp_of(path: Path) -> Stamp | None:
    """Changes when the file is replaced; None when there is none. A link that leads nowhere is an error, not none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if os.path.lexists(path):
            raise
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
