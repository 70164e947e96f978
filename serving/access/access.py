"""What a server of a home knows of who may ask it, and how much was asked."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from serving.access.audit import AuditLog
from serving.access.audit_files import AUDIT_NAME
from serving.access.keyring import Keyring, bearer
from serving.access.keys import KeyFile
from serving.access.scopes import Caller
from serving.access.upkeep import kept_up
from serving.access.usage import USAGE_NAME, DayTokens
from serving.errors import KeyRefusedError

if TYPE_CHECKING:
    from serving.access.sign_in import SignIn


def _no_keyring() -> Keyring:
    return Keyring(None)


def _in_memory() -> DayTokens:
    return DayTokens(None)


@dataclass(frozen=True)
class Access:
    """Who is let in, and what is counted. As it is by default, whoever reaches the port is its operator."""

    keyring: Keyring = field(default_factory=_no_keyring)
    tokens: DayTokens = field(default_factory=_in_memory)
    audit: AuditLog | None = None
    sign_in: "SignIn | None" = None

    @classmethod
    @contextmanager
    def within(cls, folder: Path, *, port: int, audit_required: bool = False) -> Iterator["Access"]:
        """That of a home, for its server at port; folder is where it keeps what is served.

        Raises KeyFileError, IdentityFileError, UsageFileError or RunError for what is damaged, MachineError for a log
        that cannot be written.
        """
        keyring, tokens = Keyring(KeyFile.within(folder).path), DayTokens(folder / USAGE_NAME)
        with closing(AuditLog(folder / AUDIT_NAME, str(port), is_required=audit_required)) as audit:
            yield cls(keyring, tokens, audit, _sign_in(folder))

    @property
    def is_open(self) -> bool:
        """Whether nobody has to say who it is."""
        return self.sign_in is None and self.keyring.is_open

    @asynccontextmanager
    async def kept_up(self) -> AsyncIterator[None]:
        """Write what is counted and logged once a second while the block runs, and a last time at its end."""
        saves = [self.tokens.save, *([self.audit.save] if self.audit else [])]
        async with kept_up(*saves):
            yield

    async def caller(self, authorization: Sequence[str]) -> Caller:
        """Who asks, by the values of the request's Authorization headers: a key, or a person with a token.

        Raises KeyRefusedError, or IssuerUnavailableError for a token that nobody can check now.
        """
        if self.sign_in:
            token = bearer(authorization)
            if self.sign_in.is_token(token):
                return await self.sign_in.caller(token)
            if self.keyring.is_open:
                raise KeyRefusedError("no token")
        return self.keyring.caller(authorization)


def _sign_in(folder: Path) -> "SignIn | None":
    from serving.access.identity import load_identity

    file = load_identity(folder)
    if file is None:
        return None
    from serving.access.sign_in import SignIn

    return SignIn(file)
