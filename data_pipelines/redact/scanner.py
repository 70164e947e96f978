"""Where a text holds secrets and persons: rules, then the authors of the history, then what overlaps is settled."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from data_pipelines.config import RedactSection
from data_pipelines.redact.allow import (
    entropy,
    is_allowed_email,
    is_allowed_value,
    is_placeholder,
    looks_chosen,
    looks_random,
)
from data_pipelines.redact.form import Form
from data_pipelines.redact.pack import Rule, RulePack
from data_pipelines.redact.people import EMAIL_RULE as AUTHOR_EMAIL_RULE
from data_pipelines.redact.people import NAME_RULE as AUTHOR_NAME_RULE
from data_pipelines.redact.people import People

EMAIL_RULE = "email"
EMAIL_KIND, NAME_KIND = "EMAIL", "NAME"
PERSON_KINDS = {AUTHOR_EMAIL_RULE: EMAIL_KIND, AUTHOR_NAME_RULE: NAME_KIND}
# in ftp://user:word@host no address begins at "word"
URL_USER = re.compile(rb"://[^\s/@]{0,80}:$")
MAX_URL_USER_BYTES = 100
QUOTED = re.compile(rb"\"((?:[^\"\\\n]|\\.){3,200})\"|'((?:[^'\\\n]|\\.){3,200})'|`([^`\\\n]{3,200})`")


@dataclass(frozen=True, slots=True)
class Found:
    """A secret's place in a text, in bytes; rule saw it, kind names its placeholder, lines as in Rule."""

    start: int
    end: int
    rule: str
    kind: str
    lines: bool = False

    @property
    def is_person(self) -> bool:
        return self.kind in (EMAIL_KIND, NAME_KIND)


class Scanner:
    """Finds; replaces nothing."""

    def __init__(self, section: RedactSection, pack: RulePack, people: People) -> None:
        self._section = section
        self._pack = pack
        self._people = people

    def find(self, content: bytes, form: Form, persons: Sequence[Found] | None = None) -> list[Found]:
        """Places in their order, none of which overlaps another; persons are what self.persons(content) found."""
        names = self.persons(content) if persons is None else persons
        return _without_overlaps([*self._by_rules(content, form), *names])

    def persons(self, content: bytes) -> list[Found]:
        """Where the text names an author, by name or address."""
        return list(self._by_names(content))

    def _by_rules(self, content: bytes, form: Form) -> Iterator[Found]:
        for rule in self._pack.rules_for(content, form):
            if not (self._section.emails if rule.id == EMAIL_RULE else self._section.secrets):
                continue
            for match in rule.pattern.finditer(content):
                for start, end in _values(rule, match, content):
                    # an address is judged by what stands in front of it too
                    first = start - MAX_URL_USER_BYTES if rule.id == EMAIL_RULE else match.start()
                    if end > start and not _is_allowed(rule, content[start:end], content[max(0, first) : start]):
                        yield Found(start, end, rule.id, rule.kind, rule.lines)

    def _by_names(self, content: bytes) -> Iterator[Found]:
        wanted = {"names": self._section.names, "emails": self._section.emails}
        for start, end, rule in self._people.find(content, **wanted):
            if not is_placeholder(content[start:end]):
                yield Found(start, end, rule, PERSON_KINDS[rule])


def _values(rule: Rule, match: Any, content: bytes) -> Iterator[tuple[int, int]]:
    """The spans of a match that hold the secret: its group, or with rule.strings each quoted text in it."""
    group = next((number for number in rule.groups if match.span(number)[0] >= 0), 0)
    start, end = match.span(group)
    if not rule.strings:
        yield start, end
        return
    for quoted in QUOTED.finditer(content, start, end):
        yield quoted.span(quoted.lastindex or 0)


def _is_allowed(rule: Rule, value: bytes, before: bytes) -> bool:
    if is_placeholder(value):
        return True
    if rule.id == EMAIL_RULE:
        return is_allowed_email(value) or bool(URL_USER.search(before))
    if rule.min_entropy and entropy(value) < rule.min_entropy:
        return True
    if (rule.chosen and not looks_chosen(value)) or (rule.random and not looks_random(value)):
        return True
    return rule.human and is_allowed_value(value, before, mixed=rule.mixed)


def _without_overlaps(everything: list[Found]) -> list[Found]:
    """The longest of those that overlap; among equals the rule that stands first in the pack.

    A person gives way to any secret: in user:word@host an address would take the host with it.
    """
    secrets = _longest([item for item in everything if not item.is_person])
    starts = [item.start for item in secrets]
    kept = list(secrets)
    for person in _longest([item for item in everything if item.is_person]):
        place = bisect_left(starts, person.end) - 1
        if place < 0 or secrets[place].end <= person.start:
            kept.append(person)
    return sorted(kept, key=lambda item: item.start)


def _longest(found: list[Found]) -> list[Found]:
    kept: list[Found] = []
    for item in sorted(found, key=lambda item: (item.start, -item.end)):
        if not kept or item.start >= kept[-1].end:
            kept.append(item)
            continue
        last = kept.pop()
        wider = item if item.end - item.start > last.end - last.start else last
        kept.append(Found(last.start, max(last.end, item.end), wider.rule, wider.kind, wider.lines))
    return kept
