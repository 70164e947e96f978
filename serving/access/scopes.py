"""What a caller of the endpoint may do, and which adapters exist for it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from serving.access.record import RequestRecord
from serving.errors import ScopeError

# What an adapter from repositories of this group alone shows is for every key
PUBLIC = "public"
# The group of repositories for which none is stated, and of keys for which none is
DEFAULT_GROUP = "internal"


class Scope(StrEnum):
    """A kind of request. ADMIN is all of them, also those that are still to come, over all adapters.

    LOAD only adds: it brings adapters in under names that nobody uses, so no one's answers change. PROMOTE changes what
    names in use answer with: it moves them, rolls them back and takes them away. Taking away is not in LOAD, for who
    may take a name away and load another adapter under it can move it.
    """

    INFER = "infer"
    LOAD = "load"
    PROMOTE = "promote"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a caller may ask; None: as much as the server takes.

    tokens_per_day counts prompts and answers of a day in UTC, max_concurrent the requests that run at a time.
    """

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    max_concurrent: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. adapters are patterns, with * and ?, of the names and ids that exist for the caller.

    groups are those of repositories whose content the caller may see. name is a key's, or that of a person who signed
    in; what is counted is counted by it. id says by which of the keys of that name, "" for a person. record is that of
    the one request, on which is noted what it touched.
    """

    name: str
    scopes: frozenset[Scope]
    adapters: tuple[str, ...]
    limits: Limits = NO_LIMITS
    groups: frozenset[str] = frozenset()
    id: str = field(default="", compare=False)
    record: RequestRecord = field(default_factory=RequestRecord, compare=False, repr=False)

    @property
    def is_admin(self) -> bool:
        """Whether nothing is hidden, and everything is allowed."""
        return Scope.ADMIN in self.scopes

    def may(self, *scopes: Scope) -> bool:
        """Whether the caller has one of the scopes."""
        return self.is_admin or not self.scopes.isdisjoint(scopes)

    def need(self, scope: Scope, what: str) -> None:
        """Raise ScopeError, which names what asks for the scope, when the caller lacks it."""
        if not self.may(scope):
            raise scope_error(self, what, frozenset({scope}))

    @property
    def sees_all(self) -> bool:
        """Whether no name is hidden by the patterns."""
        return self.is_admin or "*" in self.adapters

    def sees(self, name: str) -> bool:
        """Whether the patterns let an adapter's name or id exist for the caller. What is there is not looked at."""
        return self.sees_all or any(fnmatchcase(name, pattern) for pattern in self.adapters)

    def holds(self, visibility: Iterable[str]) -> bool:
        """Whether the caller may see what was learned from repositories of all of these groups.

        Where none is stated, nobody knows what was learned from, and only an admin may.
        """
        needed = frozenset(visibility)
        return self.is_admin or (bool(needed) and needed - {PUBLIC} <= self.groups)


# Who reaches a server of a home without keys: a developer on this machine
OPERATOR = Caller("", frozenset({Scope.ADMIN}), ("*",))


def scope_error(caller: Caller, what: str, scopes: frozenset[Scope]) -> ScopeError:
    """The refusal of what, which one of scopes would allow."""
    needed = " or ".join(scope for scope in Scope if scope in scopes)
    held = ", ".join(scope for scope in Scope if scope in caller.scopes) or "none"
    return ScopeError(f"{what} needs a key with the scope {needed}; this one has {held}.", "Use another key.")
