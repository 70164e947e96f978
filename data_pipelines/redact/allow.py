"""Values that only look like secrets: templates, names of fields, words that stand for a value, reserved domains."""

import math
import re
from collections import Counter

# names whose value describes a password rather than being one: password_field = "pw"
NOT_A_SECRET_NAME = re.compile(
    rb"(?i)(?:_|-|\.|\b)(?:field|label|prompt|hint|help|name|type|header|param|parameter|error|message|msg|url|uri|path"
    rb"|file|filename|regex|pattern|form|input|template|title|placeholder|policy|prefix|suffix|kind|class|backend|endpoint"
    rb"|column|key_name|re|text|format|validators?|hashers?)s?[\"'\]]{0,2}\s*(?::[^=\"']*)?(?:=|:|==|=>)\s*$"
)
STANDS_FOR_A_VALUE = re.compile(
    rb"(?i)^(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|user(?:name)?|none|null|true|false|str|string|int"
    rb"|bool|bytes|optional|required|unknown|default|empty|example|text|value|hidden|redacted|masked|placeholder"
    rb"|[xX*._\-]{3,}|\.\.\.|<[^>]*>|\[[^\]]*\]|\{[^}]*\}|\$\{?[\w.]+\}?|%\(?\w*\)?[sdr]"
    rb"|your[_\- ].*|my[_\-]?(?:secret|token|password))$"
)
# ("DB_PASSWORD", "DB_USER") names settings and gives no value
CONSTANT_NAME = re.compile(rb"^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$")
TEMPLATE = re.compile(rb"\$\{|\{\{|\{[\w.]*\}|%\(|%s|<[a-z_ -]+>|os\.environ|getenv")
PLACEHOLDER = re.compile(rb"REDACTED_[A-Z_]+_[0-9a-f]{8}|redacted-[0-9a-f]{8}@example\.com")
# RFC 2606 and RFC 6761, and addresses of services that are no person
NO_PERSON = re.compile(
    rb"(?i)(?:@(?:[a-z0-9.\-]+\.)?example\.(?:com|org|net|edu)$|\.(?:test|invalid|localhost|example)$"
    rb"|^(?:git|hg|svn|no-?reply|noreply|postmaster|abuse|root)@|@(?:users\.)?noreply\.)"
)


def entropy(value: bytes) -> float:
    """Shannon entropy of the bytes, in bits per byte."""
    counts = Counter(value)
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())


def is_allowed_value(value: bytes, before: bytes, *, mixed: bool) -> bool:
    """Whether a value that a person wrote is no secret; before is the text of the match in front of it.

    mixed asks for letters together with digits: a word alone is then no secret.
    """
    if (
        STANDS_FOR_A_VALUE.match(value)
        or CONSTANT_NAME.match(value)
        or TEMPLATE.search(value)
        or NOT_A_SECRET_NAME.search(before)
    ):
        return True
    if value.count(b" ") >= 2 or value.endswith((b":", b"?", b": ")):
        return True
    has_digit, has_letter = re.search(rb"\d", value), re.search(rb"[A-Za-z]", value)
    return mixed and not (has_digit and has_letter)


def is_allowed_email(value: bytes) -> bool:
    """Whether an address belongs to no person."""
    return bool(NO_PERSON.search(value))
