"""The authors of the history as a dictionary: full names and addresses, found wherever files and messages hold them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from itertools import product
from math import ceil
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
ADDRESS_PART = re.compile(rb"[^\s@<>\"']*")


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
        if emails and (spans := _merged(self._email_spans(content))):
            yield from _whole_words(content, spans, patterns=self._email_patterns, rule=EMAIL_RULE)
        if names and (spans := _merged(self._name_spans(content))):
            yield from _whole_words(content, spans, patterns=self._name_patterns, rule=NAME_RULE)

    def _name_spans(self, content: bytes) -> Iterator[tuple[int, int]]:
        """Every place where a name begins, to the end of the longest one there: a text without any costs one pass."""
        match = self._any_name.search(content) if self._names else None
        while match:
            yield match.span()
            match = self._any_name.search(content, match.start() + 1)

    def _email_spans(self, content: bytes) -> Iterator[tuple[int, int]]:
        """What stands around each "@" whose neighbours some address has: that costs no pass, however many there are."""
        sign = content.find(b"@") if self._emails else -1
        while sign >= 0:
            near = content[max(0, sign - 2) : sign + 3]
            # RE2 takes some letters of other scripts for ASCII ones, such as the sign of kelvin for a k
            if near.lower() in self._near_signs or not near.isascii():
                before, after = content[max(0, sign - self._reach) : sign], content[sign + 1 : sign + 1 + self._reach]
                yield sign - _address_bytes(before[::-1]), sign + 1 + _address_bytes(after)
            sign = content.find(b"@", sign + 1)

    # sorted, so that what is built does not depend on the order of a set
    @cached_property
    def _name_regexes(self) -> list[str]:
        return [r"[ \t]+".join(map(re2.escape, name.split())) for name in sorted(self._names)]

    @cached_property
    def _any_name(self) -> Any:
        return _compile(self._name_regexes)

    @cached_property
    def _name_patterns(self) -> list[Any]:
        return _compile_parts(self._name_regexes)

    @cached_property
    def _email_patterns(self) -> list[Any]:
        return _compile_parts([re2.escape(email) for email in sorted(self._emails)])

    @cached_property
    def _near_signs(self) -> frozenset[bytes]:
        folded = [email.casefold().encode() for email in self._emails]
        return frozenset(email[(sign := email.index(b"@")) - 2 : sign + 3] for email in folded)

    @cached_property
    def _reach(self) -> int:
        # a letter that RE2 takes for another one has three times as many bytes at most
        return 3 * max((len(email.encode()) for email in self._emails), default=0)


def is_full_name(words: list[str]) -> bool:
    """Whether words are the name of a person: two at least of two letters each, none that a role or a service has."""
    long = [word for word in words if len(word.rstrip(".")) > 1]
    return (
        len(long) >= 2
        and all(WORD.fullmatch(word) for word in words)
        and not any(word.lower().strip(".") in NO_PERSON_WORDS for word in words)
    )


def _compile_parts(regexes: Sequence[str]) -> list[Any]:
    return [_compile(regexes[first : first + NAMES_PER_PATTERN]) for first in range(0, len(regexes), NAMES_PER_PATTERN)]


def _compile(regexes: Sequence[str]) -> Any:
    options = re2.Options()
    options.max_mem = MAX_MEMORY_BYTES * max(1, ceil(len(regexes) / NAMES_PER_PATTERN))
    options.case_sensitive = False
    options.log_errors = False
    options.longest_match = True
    return re2.compile("|".join(regexes).encode(), options)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in their order, those that overlap as one."""
    kept: list[tuple[int, int]] = []
    for start, end in spans:
        if kept and start < kept[-1][1]:
            first, last = kept.pop()
            kept.append((first, max(last, end)))
        else:
            kept.append((start, end))
    return kept


def _whole_words(
    content: bytes, spans: Sequence[tuple[int, int]], *, patterns: Sequence[Any], rule: str
) -> Iterator[tuple[int, int, str]]:
    """Where a pattern stands as whole words; spans hold whatever the patterns match, each match in one of them."""
    for pattern, (first, last) in product(patterns, spans):
        for match in pattern.finditer(content, first, last):
            start, end = match.span()
            # RE2 knows the borders of ASCII words only
            before = content[max(0, start - 4) : start].decode("utf-8", "ignore")[-1:]
            after = content[end : end + 4].decode("utf-8", "ignore")[:1]
            if not (_joins(before) or _joins(after)):
                yield start, end, rule


def _address_bytes(content: bytes) -> int:
    match = ADDRESS_PART.match(content)
    return match.end() if match else 0


def _joins(char: str) -> bool:
    return char.isalnum() or char == "_"
