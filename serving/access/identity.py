"""served/identity.yaml: which tokens of the company's identity provider are let in, and what their holders may do.

What the file does not name gives nothing: a claim without a rule, a group that is not there, an algorithm of another
kind.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, JsonValue, model_validator

from finetune.contracts.dataset import Contract
from finetune.contracts.yaml_file import load_yaml_model
from finetune.guard.offline import is_local
from serving.access.keys import MAX_PATTERNS, PATTERN, Limit
from serving.access.scopes import Caller, Limits, Scope
from serving.errors import IdentityFileError

IDENTITY_NAME = "identity.yaml"
HINT = "docs/access.md shows a whole one. To let in keys alone, remove the file."
SUBJECT_PREFIX = "oidc:"
MAX_SUBJECT = 128
MAX_GROUPS = 256
MAX_GROUP_LETTERS = 200
Algorithm = Literal["RS256", "ES256", "EdDSA"]


def url_parts(text: str) -> SplitResult:
    """The parts of an https:// address; http:// is for loopback alone. Raises ValueError for any other."""
    parts = urlsplit(text)
    # reading the port checks it
    if not parts.hostname or parts.port == 0 or parts.username or parts.query or parts.fragment:
        raise ValueError("it is no address such as https://login.corp.example/realms/dev")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local(parts.hostname)):
        raise ValueError("it must begin with https://; http:// is for this machine alone")
    return parts


def _url(text: str) -> str:
    url_parts(text)
    return text


Url = Annotated[str, AfterValidator(_url)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_GROUP_LETTERS)]


class Rule(Contract):
    """What a token gives whose claim has that value, or has it in a list. adapters are patterns, as a key's.

    groups are those of repositories whose adapters may be seen.
    """

    claim: Name
    equals: Name
    scopes: tuple[Scope, ...] = ()
    adapters: Annotated[tuple[Annotated[str, Field(pattern=f"^{PATTERN}$")], ...], Field(max_length=MAX_PATTERNS)] = ()
    groups: Annotated[tuple[Name, ...], Field(max_length=MAX_GROUPS)] = ()


class IdentityFile(Contract):
    """Who signs tokens, for whom, and the rules; all that fit a token count together.

    The keys that tokens are signed with are read from jwks_file, or asked for at jwks_url, or where the issuer's own
    description says; ca_file, PEM, signs the certificate of the latter two. While they cannot be had, those that are
    known count for max_key_age_hours. A token may be valid for max_token_hours. groups_claim is a claim whose values
    are groups themselves; None: rules alone give groups. The limits are each person's own; None: no limit.
    """

    issuer: Url
    audience: Name
    jwks_file: Path | None = None
    jwks_url: Url | None = None
    ca_file: Path | None = None
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256", "EdDSA")
    leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 60
    max_key_age_hours: Annotated[int, Field(ge=1, le=720)] = 24
    max_token_hours: Annotated[int, Field(ge=1, le=720)] = 24
    subject_claim: Name = "sub"
    groups_claim: Name | None = None
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    requests_per_minute: Limit | None = None
    tokens_per_day: Limit | None = None
    max_concurrent: Limit | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "IdentityFile":
        if self.jwks_file and self.jwks_url:
            raise ValueError("jwks_file and jwks_url are two places for the same keys: give one")
        return self

    @property
    def limits(self) -> Limits:
        """Those of each person."""
        return Limits(self.requests_per_minute, self.tokens_per_day, self.max_concurrent)

    def caller(self, claims: Mapping[str, JsonValue]) -> Caller | None:
        """Who a token with these claims is, and what it may do: nothing where no rule fits. None: nobody."""
        subject = claims.get(self.subject_claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or not subject.isprintable():
            return None
        rules = [rule for rule in self.rules if rule.equals in _values(claims, rule.claim)]
        claimed = _values(claims, self.groups_claim) if self.groups_claim else []
        groups = {one for one in claimed if one.isprintable() and len(one) <= MAX_GROUP_LETTERS}
        return Caller(
            SUBJECT_PREFIX + subject,
            frozenset(scope for rule in rules for scope in rule.scopes),
            tuple(dict.fromkeys(pattern for rule in rules for pattern in rule.adapters)),
            self.limits,
            # a person whom no rule knows has no use for them
            frozenset(groups.union(*(rule.groups for rule in rules))) if rules else frozenset(),
        )


def load_identity(folder: Path) -> IdentityFile | None:
    """That of a home, from the folder of what it serves; None where there is none.

    Raises IdentityFileError with every mistake and its line, and for a file that cannot be read.
    """
    path = folder / IDENTITY_NAME
    if not os.path.lexists(path):
        return None
    return load_yaml_model(path, IdentityFile, error=IdentityFileError, hint=HINT)


def _values(claims: Mapping[str, JsonValue], name: str) -> list[str]:
    """The texts of a claim: a text, its words where it is a list of scopes, or the texts in a list.

    realm_access.roles is a claim of that name, or else what is in another one.
    """
    found: JsonValue = claims.get(name)
    if found is None and "." in name:
        outer, _, inner = name.partition(".")
        nested = claims.get(outer)
        found = nested.get(inner) if isinstance(nested, dict) else None
    if isinstance(found, str):
        return found.split() if re.fullmatch("scope|scp", name) else [found]
    return list(_texts(found))


def _texts(value: JsonValue) -> Iterator[str]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, str))
