"""The authors of the history as a dictionary: full names and addresses, found wherever files and messages hold them."""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import blake2b
from typing import Any, Protocol

import re2

from data_pipelines.redact.allow import is_allowed_email
from data_pipelines.redact.pack import MAX_MEMORY_BYTES

NAME_RULE, EMAIL_RULE = "author-name", "author-email"
# RE2 compiles this many names into one automaton within its memory
NAMES_PER_PATTERN = 2_000
MAX_NAME_CHARS = 80
TRAILER = re.compile(r"(?im)^[a-z]+(?:-[a-z]+)*-by:[ \t]*([^<>\n]{1,80}?)[ \t]*<([^<>\s]{3,120})>")
# a name that holds one of these is that of a service, a role or a team, or is no name yet
SERVICE_WORDS = (
    "test tester testing user users admin administrator root your name unknown nobody anonymous developer developers"
    " dev team teams group project projects build builds builder ci cd bot robot actions action github gitlab bitbucket"
    " jenkins travis system service account release releases automation automated deploy deployment code review"
    " contributors authors author maintainers community foundation company corp inc ltd gmbh llc the and of for not in"
    " is or if none true false self import return from class support security mail example default"
)
NO_PERSON_WORDS = frozenset(SERVICE_WORDS.split())
# letters of any script, then what stands inside names: O'Brien, Jean-Luc, J.
WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’.\-])*")
ADDRESS = re.compile(r"[^\s@<>\"']{2,}@[^\s@<>\"']{2,}")


class Signed(Protocol):
    """What a commit tells about persons."""

    @property
    def name(self) -> str: ...
    @property
    def email(self) -> str: ...
    @property
    def message(self) -> str: ...


class People:
    """Names of two words at least, and addresses of persons; a single word is too often a common one."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._emails: set[str] = set()

    def add(self, commit: Signed) -> None:
        """Take in a commit's author and whom its trailers name ("Reviewed-by: Name <address>"); none was sought yet."""
        self.add_person(commit.name, commit.email)
        for name, email in TRAILER.findall(commit.message):
            self.add_person(name, email)

    def add_person(self, name: str, email: str) -> None:
        """Take in one person; what is no full name or no address of a person is passed over."""
        words = name.split()
        if len(name) <= MAX_NAME_CHARS and is_full_name(words):
            self._names.add(" ".join(words).lower())
        address = email.strip().lower()
        if ADDRESS.fullmatch(address) and not is_allowed_email(address.encode()):
            self._emails.add(address)

    def extend(self, names: Iterable[str], emails: Iterable[str]) -> None:
        """Take in what names() and emails() of another dictionary gave."""
        self._names.update(names)
        self._emails.update(emails)

    def names(self) -> list[str]:
        """Full names in lower case, sorted."""
        return sorted(self._names)

    def emails(self) -> list[str]:
        """Addresses in lower case, sorted."""
        return sorted(self._emails)

    def digest(self) -> bytes:
        """Tells dictionaries apart."""
        return blake2b("\n".join([*self.names(), "", *self.emails()]).encode(), digest_size=16).digest()

    def find(self, content: bytes, *, names: bool, emails: bool) -> Iterator[tuple[int, int, str]]:
        """Where a person stands in the UTF-8 text, and the rule's id."""
        if emails and b"@" in content:
            yield from _whole_words(content, self._email_patterns, EMAIL_RULE)
        if names:
            yield from _whole_words(content, self._name_patterns, NAME_RULE)

    # sorted, so that what is built does not depend on the order of a set
    @cached_property
    def _name_patterns(self) -> list[Any]:
        return _compile([r"[ \t]+".join(map(re2.escape, name.split())) for name in sorted(self._names)])

    @cached_property
    def _email_patterns(self) -> list[Any]:
        return _compile([re2.escape(email) for email in sorted(self._emails)])


def is_full_name(words: list[str]) -> bool:
    """Whether words are the name of a person: two at least of two letters each, none that a role or a service has."""
    long = [word for word in words if len(word.rstrip(".")) > 1]
    return (
        len(long) >= 2
        and all(WORD.fullmatch(word) for word in words)
        and not any(word.lower().strip(".") in NO_PERSON_WORDS for word in words)
    )


def _compile(patterns: Iterable[str]) -> list[Any]:
    options = re2.Options()
    options.max_mem = MAX_MEMORY_BYTES
    options.case_sensitive = False
    options.log_errors = False
    options.longest_match = True
    everything = list(patterns)
    return [
        re2.compile("|".join(everything[first : first + NAMES_PER_PATTERN]).encode(), options)
        for first in range(0, len(everything), NAMES_PER_PATTERN)
    ]


def _whole_words(content: bytes, patterns: list[Any], rule: str) -> Iterator[tuple[int, int, str]]:
    for pattern in patterns:
        for match in pattern.finditer(content):
            start, end = match.span()
            # RE2 knows the borders of ASCII words only
            before = content[max(0, start - 4) : start].decode("utf-8", "ignore")[-1:]
            after = content[end : end + 4].decode("utf-8", "ignore")[:1]
            if not (_joins(before) or _joins(after)):
                yield start, end, rule


def _joins(char: str) -> bool:
    return char.isalnum() or char == "_"
