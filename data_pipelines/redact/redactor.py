"""Secrets and addresses replaced by placeholders of the same kind, the same secret always by the same placeholder."""

import hmac
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from data_pipelines.config import RedactSection
from data_pipelines.redact.allow import PLACEHOLDER, entropy, is_allowed_email, is_allowed_value
from data_pipelines.redact.pack import Rule, RulePack, default_pack

TAG_CHARS = 8
AUTHOR_CHARS = 16
EMAIL_RULE = "email"
# what surrounds the parts of a key that is written over several lines: quotes, commas, comment marks, line breaks
LINE_EDGE = re.compile(rb"^([\s\"'#/*+(>|-]*?)((?:-----)?[^\s\"'].*?)((?:\\[nr])*[\s\"',+)\\]*)$", re.DOTALL)
PLACEHOLDER_TEXT = re.compile(PLACEHOLDER.pattern.decode())


@dataclass(frozen=True, slots=True)
class Found:
    """A secret's place in a text, and the rule that saw it."""

    start: int
    end: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Redacted:
    """The text without its secrets, and how often each rule hit."""

    text: str
    hits: Counter[str]


class Redactor:
    """Keyed: without the key nobody can try guesses against a placeholder's tag or an author's hash."""

    def __init__(self, section: RedactSection, key: bytes, *, pack: RulePack | None = None) -> None:
        self._section = section
        self._key = key
        self._pack = pack or default_pack()

    def author(self, email: str) -> str:
        """The keyed hash that stands for an author in provenance."""
        return self._tag("author", email.strip().lower().encode())[:AUTHOR_CHARS]

    def redact(self, text: str) -> Redacted:
        """Replace what the rules find. Lines keep their numbers."""
        content = text.encode("utf-8")
        found = _without_overlaps(self._find(content))
        if not found:
            return Redacted(text, Counter())
        parts, done = [], 0
        for item in found:
            parts += [content[done : item.start], self._placeholder(item.rule, content[item.start : item.end])]
            done = item.end
        parts.append(content[done:])
        return Redacted(b"".join(parts).decode("utf-8"), Counter(item.rule.id for item in found))

    def _find(self, content: bytes) -> Iterator[Found]:
        for rule in self._pack.rules_for(content):
            if not (self._section.emails if rule.id == EMAIL_RULE else self._section.secrets):
                continue
            for match in rule.pattern.finditer(content):
                group = next((number for number in rule.groups if match.span(number)[0] >= 0), 0)
                start, end = match.span(group)
                if end > start and not _is_allowed(rule, content[start:end], content[match.start() : start]):
                    yield Found(start, end, rule)

    def _placeholder(self, rule: Rule, secret: bytes) -> bytes:
        tag = self._tag(rule.kind, secret)[:TAG_CHARS]
        if rule.id == EMAIL_RULE:
            return f"redacted-{tag}@example.com".encode()
        name = f"REDACTED_{rule.kind}_{tag}".encode()
        return _line_by_line(secret, name) if rule.lines else name

    def _tag(self, kind: str, secret: bytes) -> str:
        return hmac.new(self._key, kind.encode() + b"\0" + secret, sha256).hexdigest()


def count_placeholders(text: str) -> int:
    """How many placeholders a text holds."""
    return sum(1 for _ in PLACEHOLDER_TEXT.finditer(text)) if "edacted" in text or "REDACTED" in text else 0


def _is_allowed(rule: Rule, value: bytes, before: bytes) -> bool:
    if PLACEHOLDER.search(value):
        return True
    if rule.id == EMAIL_RULE:
        return is_allowed_email(value)
    if rule.min_entropy and entropy(value) < rule.min_entropy:
        return True
    return rule.human and is_allowed_value(value, before, mixed=rule.mixed)


def _without_overlaps(found: Iterator[Found]) -> list[Found]:
    """The longest of those that overlap; among equals the rule that stands first in the pack.

    An address gives way to any secret: in user:word@host it would take the host with it.
    """
    everything = list(found)
    secrets = _longest([item for item in everything if item.rule.id != EMAIL_RULE])
    starts = [item.start for item in secrets]
    kept = list(secrets)
    for email in _longest([item for item in everything if item.rule.id == EMAIL_RULE]):
        place = bisect_left(starts, email.end) - 1
        if place < 0 or secrets[place].end <= email.start:
            kept.append(email)
    return sorted(kept, key=lambda item: item.start)


def _longest(found: list[Found]) -> list[Found]:
    kept: list[Found] = []
    for item in sorted(found, key=lambda item: (item.start, -item.end)):
        if not kept or item.start >= kept[-1].end:
            kept.append(item)
        elif item.end - item.start > kept[-1].end - kept[-1].start:
            kept[-1] = Found(kept[-1].start, item.end, item.rule)
        else:
            kept[-1] = Found(kept[-1].start, max(kept[-1].end, item.end), kept[-1].rule)
    return kept


def _line_by_line(secret: bytes, name: bytes) -> bytes:
    lines = []
    for line in secret.split(b"\n"):
        match = LINE_EDGE.match(line)
        lines.append(match[1] + name + match[3] if match else line)
    return b"\n".join(lines)
