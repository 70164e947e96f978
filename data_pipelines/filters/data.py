"""Data in the form of source code: dumps of databases, and tables of literals."""

import re2

# a literal and what separates it from the next; a run of them is a table, whatever its brackets
LITERAL = (
    rb"(?:[-+]?(?:0[xX][0-9a-fA-F]+|[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)[uUlLfF]*"
    rb'|"(?:[^"\\\n]|\\.)*"|' + rb"'(?:[^'\\\n]|\\.)*')"
)
TABLE = re2.compile(LITERAL + rb"(?:[\s\[\]{}()]*[,;:][\s\[\]{}(),;]*" + LITERAL + rb"){11,}")
# rows of INSERT, also where each stands on a line of its own
DUMP_ROW = re2.compile(rb"(?im)^\s*(?:INSERT\s+INTO\b.*|\([^\n]*\)\s*[,;])[ \t\r]*$")
COPY_BLOCK = re2.compile(rb"(?ims)^COPY\s[^\n;]*\sFROM\s+stdin;.*?^\\\.\r?$")
MIN_DUMP_ROWS = 20
MIN_TABLE_BYTES = 500


def dump_reason(content: bytes, *, max_share: float) -> str | None:
    """Why an SQL file is the contents of a database and no code; None when it is code."""
    num_rows, total = _measure(DUMP_ROW, content)
    num_blocks, copied = _measure(COPY_BLOCK, content)
    if (num_rows >= MIN_DUMP_ROWS or num_blocks) and total + copied > max_share * len(content):
        return "data: mostly rows of a database dump"
    return None


def table_reason(content: bytes, *, max_share: float) -> str | None:
    """Why a source file is a table of numbers and strings; None when it is code."""
    if len(content) < MIN_TABLE_BYTES:
        return None
    _, total = _measure(TABLE, content)
    return "data: mostly lists of literals" if total > max_share * len(content) else None


def _measure(pattern: "re2._Regexp", content: bytes) -> tuple[int, int]:
    """How many matches, and how many bytes they take together."""
    count = total = 0
    for match in pattern.finditer(content):
        count += 1
        total += match.end() - match.start()
    return count, total
