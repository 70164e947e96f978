"""The keys that an identity provider signs tokens with, as a running server knows them."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator

import jwt
from pydantic import JsonValue

from serving.errors import IssuerError, IssuerUnavailableError

LOGGER = logging.getLogger("serving")
MAX_KEYS = 64
# Known keys are asked for anew after so long, in the background
REFRESH_SECONDS = 600.0
# A token that names a key that is not known lets the server ask at once, but so seldom that strangers change nothing
RETRY_SECONDS = 30.0
# Which algorithm a key is for, by its kind and curve: one each, so that no token can choose
ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}


class IssuerKeys:
    """Finds the key for a token, and keeps the keys fresh. source reads a key set and may block: see key_source.

    Keys that could not be read anew for max_age_seconds count no more.
    """

    def __init__(self, source: Callable[[], JsonValue], *, max_age_seconds: float) -> None:
        self._source = source
        self._max_age_seconds = max_age_seconds
        self._keys: dict[tuple[str, str], jwt.PyJWK] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._told = ""

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key of that id for that algorithm; None: there is none. Without an id, the only one for the algorithm.

        Raises IssuerUnavailableError when the keys that are known are too old, or there are none yet.
        """
        if self._age(self._read_at) >= REFRESH_SECONDS:
            self._read_again()
        found = self._known(key_id, algorithm)
        if found is None or self._is_old():
            self._read_again()
            if self._reading:
                # whoever waits may go away; the reading goes on
                await asyncio.wait({self._reading})
            found = self._known(key_id, algorithm)
        if self._is_old():
            raise IssuerUnavailableError
        return found

    def _known(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        if key_id is not None:
            return self._keys.get((key_id, algorithm))
        fitting = [key for (_, one), key in self._keys.items() if one == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _is_old(self) -> bool:
        return self._age(self._read_at) >= self._max_age_seconds

    def _read_again(self) -> None:
        """Begin to read, unless that goes on or was tried a moment ago."""
        loop = asyncio.get_running_loop()
        if self._reading and not self._reading.done() and self._reading.get_loop() is loop:
            return
        self._reading = None
        if self._age(self._tried_at) >= RETRY_SECONDS:
            self._tried_at = time.monotonic()
            self._reading = loop.create_task(self._read())

    async def _read(self) -> None:
        try:
            document = await asyncio.to_thread(self._source)
            keys = dict(_usable(document))
            if not keys:
                raise IssuerError("The identity provider has no key that could be used.")
        except IssuerError as error:
            if error.message != self._told:
                LOGGER.error("keys that tokens are signed with cannot be read: %s", error.message)
            self._told = error.message
        except Exception:
            LOGGER.exception("keys that tokens are signed with cannot be read")
        else:
            self._keys, self._read_at, self._told = keys, time.monotonic(), ""

    @staticmethod
    def _age(since: float | None) -> float:
        return float("inf") if since is None else time.monotonic() - since


def _usable(document: JsonValue) -> Iterator[tuple[tuple[str, str], jwt.PyJWK]]:
    """Keys by id and algorithm: public ones for signatures, of a kind that is allowed. Others are passed over."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise IssuerError("The identity provider's keys are no JSON Web Key Set.")
    for number, one in enumerate(listed):
        if not isinstance(one, dict) or "d" in one:
            continue
        kind, curve, key_id = one.get("kty"), one.get("crv"), one.get("kid", f"#{number}")
        algorithm = ALGORITHMS.get((str(kind), None if kind == "RSA" else str(curve)))
        operations = one.get("key_ops", ["verify"])
        is_for_signatures = one.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
        if algorithm is None or one.get("alg", algorithm) != algorithm or not is_for_signatures:
            continue
        if not isinstance(key_id, str):
            continue
        try:
            yield (key_id, algorithm), jwt.PyJWK(one, algorithm=algorithm)
        except jwt.PyJWTError:
            LOGGER.warning("a key of the identity provider is damaged, and passed over")
