"""What a server of a home knows of who may ask it, and how much was asked."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from serving.access.audit import AuditLog
from serving.access.audit_files import AUDIT_NAME
from serving.access.keyring import Keyring
from serving.access.keys import KeyFile
from serving.access.usage import USAGE_NAME, DayTokens


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

    @classmethod
    @contextmanager
    def within(cls, folder: Path, *, port: int, audit_required: bool = False) -> Iterator["Access"]:
        """That of a home, for its server at port; folder is where it keeps what is served.

        Raises KeyFileError, UsageFileError or RunError for what is damaged, MachineError for a log that cannot be
        written.
        """
        keyring, tokens = Keyring(KeyFile.within(folder).path), DayTokens(folder / USAGE_NAME)
        with closing(AuditLog(folder / AUDIT_NAME, str(port), is_required=audit_required)) as audit:
            yield cls(keyring, tokens, audit)

    @property
    def is_open(self) -> bool:
        """Whether nobody has to say who it is."""
        return self.keyring.is_open
