"""Values that only look like secrets: templates, names of fields, words that stand for a value, reserved domains."""

import math
import re
from collections import Counter

from finetune.contracts.placeholder import PATTERN

# names whose value describes a password rather than being one: password_field = "pw"
NOT_A_SECRET_NAME = re.compile(
    rb"(?i)(?:_|-|\.|\b)(?:field|label|prompt|hint|help|name|type|header|param|parameter|error|message|msg|url|uri|path"
    rb"|file|filename|regex|pattern|form|input|template|title|placeholder|policy|prefix|suffix|kind|class|backend|endpoint"
    rb"|column|key_name|re|text|format|validators?|hashers?)s?[\"'\]]{0,2}\s*(?::[^=\"'\n]*)?(?:=|:|==|=>)\s*$"
)
STANDS_FOR_A_VALUE = re.compile(
    rb"(?i)^(?:password|passwd|passphrase|pass|pwd|pw|secret|token|api[_-]?key|user(?:name)?|none|null|nil|undefined|true"
    rb"|false|yes|no|on|off|str|string|int|integer|bool|boolean|bytes|char|object|array|optional|required|unknown|default|utf-?8|latin-?1|ascii"
    rb"|empty|example|text|value|hidden|redacted|masked|placeholder|prompt|ask|auto|foo|bar|baz|spam|eggs|abc|xyz|test"
    rb"|[xX*._\-]{3,}|\.\.\.|<[^>]*>|\[[^\]]*\]|\{[^}]*\}|\$\{?[\w.]+\}?|%\(?\w*\)?[sdr]|[@!]\w+@?"
    rb"|your[_\- ].*|my[_\-]?(?:secret|token|password))$"
)
# "settings.db_password" and "/run/secrets/db" say where a value is; "1.2.1" is the version of a package
REFERENCE = re.compile(
    rb"^(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\.[A-Za-z_]+|(?:/|\./|\.\./|~/)[\w./~\-]+|\$[({\w].*|[\^~v]?\d+(?:\.\d+){1,3})$"
)
# three words at least, as in correct-horse-battery
PHRASE = re.compile(rb"^[a-z]{3,}(?:-[a-z]{3,}){2,}$")
CHOSEN_SIGN = re.compile(rb"[!@#$%^&]")
# calls, paths, lists, formats, hosts, versions, names of files: what a person writes where no password stands
NOT_CHOSEN = re.compile(
    rb"(?i)[\s()\[\]{}<>/\\=,;|:]|^v?\d+(?:[.\-]\d+)*[a-z]?$|^[a-z0-9_\-]+(?:\.[a-z0-9_\-]+)*\.[a-z]{2,6}$|^[\w.+\-]+@[\w.\-]+\.\w+$"
)
# ("DB_PASSWORD", "DB_USER") and "currentPassword" name settings and give no value
CONSTANT_NAME = re.compile(rb"^(?:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[a-z]+(?:[A-Z][a-z]+)*Password|(?:[a-z]+_)+password)$")
TEMPLATE = re.compile(rb"\$\{|\{\{|\{[\w.]*\}|%\(|%s|<[a-z_ -]+>|os\.environ|getenv")
PLACEHOLDER = re.compile(PATTERN.encode())
# a placeholder that the border of a row cuts
CUT_PLACEHOLDER = re.compile(rb"^REDACTED_[A-Z_]|^redacted-[0-9a-f]{1,8}@")
# RFC 2606 and RFC 6761, addresses of services that are no person, names of SSH's algorithms
NO_PERSON = re.compile(
    rb"(?i)(?:@(?:[a-z0-9.\-]+\.)?example\.(?:com|org|net|edu)$|\.(?:test|invalid|localhost|example)$"
    rb"|^(?:git|hg|svn|no-?reply|noreply|postmaster|abuse|root)@|@(?:users\.)?noreply\.|@(?:openssh\.com|libssh\.org)$)"
)


# alphabets, digests that say so, and paths are long and even, but no draw of chance
NOT_RANDOM = re.compile(rb"(?i:abcdefg|bcdefgh|0123456|^sha\d+-|[_/\-][a-z]+[_/\-]|-[0-9a-z]{4}-)|[a-z]{9}")
# names of classes and models are words with digits between them; chance makes few words
CAMEL_WORD, LONG_WORD = re.compile(rb"[A-Z][a-z]{2,}"), re.compile(rb"[a-z]{4,}")
BYTES_PER_CAMEL_WORD, BYTES_PER_LONG_WORD = 6, 13
MIN_RANDOM_ENTROPY, MIN_RANDOM_DIGITS = 4.3, 3
MIN_CHOSEN_BYTES, MAX_CHOSEN_BYTES = 5, 64


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
        or REFERENCE.match(value)
        or NOT_A_SECRET_NAME.search(before)
    ):
        return True
    has_digit, has_letter = re.search(rb"\d", value), re.search(rb"[A-Za-z]", value)
    # a sentence, or a prompt
    if value.count(b" ") >= 2 or (value.rstrip().endswith((b":", b"?")) and not has_digit):
        return True
    return mixed and not (has_digit and has_letter)


def looks_chosen(value: bytes) -> bool:
    """Whether a text looks like a password where its place alone does not say so: a digit or a sign, or three words."""
    if not MIN_CHOSEN_BYTES <= len(value) <= MAX_CHOSEN_BYTES or NOT_CHOSEN.search(value):
        return False
    has_mark = re.search(rb"\d", value) or CHOSEN_SIGN.search(value) or PHRASE.match(value)
    return bool(has_mark and re.search(rb"[A-Za-z]", value))


def looks_random(value: bytes) -> bool:
    """Whether a long text is a draw of chance over letters of both cases and digits; no hex digest is one."""
    if NOT_RANDOM.search(value) or entropy(value) < MIN_RANDOM_ENTROPY:
        return False
    if len(CAMEL_WORD.findall(value)) * BYTES_PER_CAMEL_WORD > len(value):
        return False
    if len(LONG_WORD.findall(value)) * BYTES_PER_LONG_WORD > len(value):
        return False
    has_cases = re.search(rb"[a-z]", value) and re.search(rb"[A-Z]", value)
    return bool(has_cases) and len(re.findall(rb"\d", value)) >= MIN_RANDOM_DIGITS


def is_placeholder(value: bytes) -> bool:
    """Whether a text is what stands for a secret, or a part of that."""
    return bool(PLACEHOLDER.search(value) or CUT_PLACEHOLDER.match(value))


def is_allowed_email(value: bytes) -> bool:
    """Whether an address belongs to no person."""
    return bool(NO_PERSON.search(value))
