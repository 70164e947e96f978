"""Files that a program wrote: by name, by what their first lines say, by encoded data."""

import re

NAMES = re.compile(
    r"(?:_pb2|_pb2_grpc|_grpc|\.generated|_generated|_version|versioneer|\.min|\.pb|\.g|\.[Dd]esigner|\.bundle)\.[a-z]+$"
)
PHRASES = re.compile(
    r"(?i)\b(?:auto-?\s?generated|generated (?:by|from|with|automatically|code|file)|do not (?:edit|modify)\b"
    r"|this file (?:is|was) generated)"
)
HEAD_LINES = 5
COMMENT_MARKS = ("#", "//", "/*", "*", "--", ";", '"""', "'''", "<!--")
ENCODED = re.compile(r"[A-Za-z0-9+/]{64,}={0,2}|(?:(?:\\x|0x)[0-9a-fA-F]{2}[, ]*){8,}|(?:\\u[0-9a-fA-F]{4}){8,}")
MAX_ENCODED_CHARS = 1024
MAX_ENCODED_SHARE = 0.5


def generated_name_reason(path: str) -> str | None:
    """Why a path looks generated, None when it does not."""
    return "generated: file name" if NAMES.search(path.rsplit("/", 1)[-1]) else None


def generated_text_reason(text: str) -> str | None:
    """Why a text looks generated: a phrase in a comment of its first lines, or a mass of encoded data.

    Thresholds of encoded data: StarCoder2 (arXiv 2402.19173), one run above 1024 characters or half of the file.
    """
    for line in text.split("\n", HEAD_LINES)[:HEAD_LINES]:
        if line.lstrip().startswith(COMMENT_MARKS) and PHRASES.search(line):
            return "generated: says so in its first lines"
    longest = total = 0
    for match in ENCODED.finditer(text):
        longest = max(longest, len(match[0]))
        total += len(match[0])
    if longest > MAX_ENCODED_CHARS or total > MAX_ENCODED_SHARE * len(text):
        return "generated: encoded data"
    return None
