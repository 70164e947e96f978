"""Secrets and persons replaced by placeholders of the same kind, the same secret always by the same placeholder."""

import hmac
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from data_pipelines.config import RedactSection
from data_pipelines.redact.allow import PLACEHOLDER
from data_pipelines.redact.form import Form
from data_pipelines.redact.pack import RulePack, default_pack
from data_pipelines.redact.people import People
from data_pipelines.redact.scanner import EMAIL_KIND, Found, Scanner

TAG_CHARS = 8
AUTHOR_CHARS = 16
# what surrounds the parts of a key that is written over several lines: quotes, commas, comment marks, line breaks
LINE_EDGE = re.compile(rb"^([\s\"'#/*+(>|-]*?)((?:-----)?[^\s\"'].*?)((?:\\[nr])*[\s\"',+)\\]*)$", re.DOTALL)
PLACEHOLDER_TEXT = re.compile(PLACEHOLDER.pattern.decode())


class ScanFailed(Exception):
    """A text could not be scanned, so it must not be used; the text of the error is the reason to note."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """The text without its secrets, and how often each rule hit.

    marks tell where persons were found: another dictionary that gives equal marks gives an equal text. b"" for none.
    """

    text: str
    hits: Counter[str]
    marks: bytes = b""


class Redactor:
    """Keyed: without the key nobody can try guesses against a placeholder's tag or an author's hash.

    people are the authors whose names and addresses are taken out too; None for none.
    """

    def __init__(
        self, section: RedactSection, key: bytes, *, pack: RulePack | None = None, people: People | None = None
    ) -> None:
        self._key = key
        self._scanner = Scanner(section, pack or default_pack(), people or People())

    def author(self, email: str) -> str:
        """The keyed hash that stands for an author in provenance."""
        return self._tag("author", email.strip().lower().encode())[:AUTHOR_CHARS]

    def redact(self, text: str, form: Form = Form.CODE) -> Redacted:
        """Replace what the scanner finds. Lines keep their numbers. Raises ScanFailed."""
        content = text.encode("utf-8")
        persons = self._persons(content)
        found = self._find(content, form, persons)
        if not found:
            return Redacted(text, Counter())
        parts, done = [], 0
        for item in found:
            parts += [content[done : item.start], self._placeholder(item, content[item.start : item.end])]
            done = item.end
        parts.append(content[done:])
        return Redacted(b"".join(parts).decode("utf-8"), Counter(item.rule for item in found), _marks(persons))

    def marks(self, text: str) -> bytes:
        """Redacted.marks of a text, at a small part of the price. Raises ScanFailed."""
        return _marks(self._persons(text.encode("utf-8")))

    def rules_that_hit(self, text: str, form: Form = Form.CODE) -> tuple[str, ...]:
        """Ids of the rules that see a secret in text, sorted; empty for a clean one. Raises ScanFailed."""
        return tuple(sorted({item.rule for item in self._find(text.encode("utf-8"), form)}))

    def _persons(self, content: bytes) -> list[Found]:
        return _one_text(lambda: self._scanner.persons(content))

    def _find(self, content: bytes, form: Form, persons: Sequence[Found] | None = None) -> list[Found]:
        return _one_text(lambda: self._scanner.find(content, form, persons))

    def _placeholder(self, item: Found, secret: bytes) -> bytes:
        # an address or a name in other capitals is the same person
        tag = self._tag(item.kind, secret.lower() if item.is_person else secret)[:TAG_CHARS]
        if item.kind == EMAIL_KIND:
            return f"redacted-{tag}@example.com".encode()
        name = f"REDACTED_{item.kind}_{tag}".encode()
        return _line_by_line(secret, name) if item.lines else name

    def _tag(self, kind: str, secret: bytes) -> str:
        return hmac.new(self._key, kind.encode() + b"\0" + secret, sha256).hexdigest()


def _one_text(scan: Callable[[], list[Found]]) -> list[Found]:
    # whatever goes wrong here costs one text: it must neither pass unscanned nor end the build
    try:
        return scan()
    except Exception as cause:
        raise ScanFailed(f"the scan for secrets failed: {type(cause).__name__}") from cause


def _marks(persons: Sequence[Found]) -> bytes:
    if not persons:
        return b""
    return sha256(b"".join(b"%d-%d-%s " % (item.start, item.end, item.rule.encode()) for item in persons)).digest()


def count_placeholders(text: str) -> int:
    """How many placeholders a text holds."""
    return sum(1 for _ in PLACEHOLDER_TEXT.finditer(text)) if "edacted" in text or "REDACTED" in text else 0


def _line_by_line(secret: bytes, name: bytes) -> bytes:
    lines = []
    for line in secret.split(b"\n"):
        match = LINE_EDGE.match(line)
        lines.append(match[1] + name + match[3] if match else line)
    return b"\n".join(lines)
