"""What a caller of the endpoint may do, and which adapters exist for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

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
class Caller:
    """Who asks. adapters are patterns, with * and ?, of the names and ids that exist for the caller.

    groups are those of repositories whose content the caller may see. requests_per_minute None: as many as the server
    takes.
    """

    name: str
    scopes: frozenset[Scope]
    adapters: tuple[str, ...]
    requests_per_minute: int | None = None
    groups: frozenset[str] = frozenset()

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
    held = ", ".join(scope for scope in Scope if scope in caller.scopes)
    return ScopeError(f"{what} needs a key with the scope {needed}; this one has {held}.", "Use another key.")
