"""People who come with a token of the company's identity provider."""

import re
from collections.abc import Mapping

import jwt
from pydantic import JsonValue

from serving.access.identity import IdentityFile
from serving.access.issuer import key_source
from serving.access.issuer_keys import IssuerKeys
from serving.access.scopes import Caller
from serving.errors import KeyRefusedError

HOUR_SECONDS = 3600
MAX_TOKEN_LETTERS = 16 << 10
# Three parts, as no key of a home has
TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
# What else an issuer signs for the same audience is no leave to ask: a note that somebody signed out, for one
TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})


class SignIn:
    """Says whose a token is and what it may do, as the identity file of the home has it."""

    def __init__(self, file: IdentityFile) -> None:
        self._file = file
        self._keys = IssuerKeys(key_source(file), max_age_seconds=file.max_key_age_hours * HOUR_SECONDS)

    @staticmethod
    def is_token(text: str) -> bool:
        """Whether a bearer's text looks like a token, and not like a key."""
        return TOKEN.fullmatch(text) is not None

    async def caller(self, token: str) -> Caller:
        """Who comes with the token. Raises KeyRefusedError, or IssuerUnavailableError when nobody could know it."""
        if len(token) > MAX_TOKEN_LETTERS:
            raise KeyRefusedError("a token that is too large")
        try:
            algorithm, key_id = self._announced(jwt.get_unverified_header(token))
            key = await self._keys.find(key_id, algorithm)
            if key is None:
                raise KeyRefusedError("a token signed with an unknown key")
            claims = self._claims(token, key, algorithm)
        except jwt.PyJWTError as error:
            raise KeyRefusedError(f"a token that is refused: {error}"[:200]) from error
        except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
            raise KeyRefusedError("a token that is damaged") from error
        caller = self._file.caller(claims)
        if caller is None:
            raise KeyRefusedError(f"a token without a {self._file.subject_claim}")
        return caller

    def _announced(self, header: Mapping[str, object]) -> tuple[str, str | None]:
        """Algorithm and id of the key, as a token says before it is believed."""
        algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "")
        if algorithm not in self._file.algorithms:
            raise KeyRefusedError(f"a token signed by {algorithm!r:.40}")
        if "crit" in header or "b64" in header or str(kind).lower() not in TYPES:
            raise KeyRefusedError("a token of another kind")
        return str(algorithm), None if key_id is None else str(key_id)

    def _claims(self, token: str, key: jwt.PyJWK, algorithm: str) -> Mapping[str, JsonValue]:
        claims: dict[str, JsonValue] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self._file.audience,
            issuer=self._file.issuer,
            leeway=self._file.leeway_seconds,
            options={"require": ["exp", "iat", "iss", "aud"], "enforce_minimum_key_length": True},
        )
        lifetime = float(str(claims["exp"])) - float(str(claims["iat"]))
        if not lifetime <= self._file.max_token_hours * HOUR_SECONDS:
            raise KeyRefusedError("a token that is valid for too long")
        return claims
