"""The one sink for results: text for a person, or one JSON document on stdout. Notes always go to stderr."""

import json
import sys
from collections.abc import Mapping, Sequence

JsonDocument = Mapping[str, object]


def emit(document: JsonDocument, *, as_json: bool, text: str) -> None:
    """Print the result of a command, once: document when as_json, else text."""
    sys.stdout.write(json_text(document) if as_json else shown(text))
    sys.stdout.write("\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Tell the user something on the way, on stderr."""
    sys.stderr.write(shown(text) + "\n")
    sys.stderr.flush()


def json_text(document: JsonDocument) -> str:
    """A document as JSON for a terminal or a program: signs that are not printable are escaped."""
    text = json.dumps(document, ensure_ascii=False, indent=2, default=str)
    # outside of strings JSON has but one of them, the end of a line
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)


def shown(text: str) -> str:
    """Text of several lines so that nothing that it names can steer the terminal; lines and tabs stay."""
    return "".join(sign if sign in "\n\t" else printable(sign) for sign in text)


def printable(text: str) -> str:
    """Text that came out of a repository, so that it cannot steer the terminal; it becomes one line."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), indent: int = 2) -> str:
    """Columns aligned with spaces; a column whose cells below the header are all numbers is set to the right."""
    lines = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if not lines:
        return ""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(lines[0]))]
    out = []
    for line in lines:
        cells = [
            cell.rjust(width) if align else cell.ljust(width)
            for cell, width, align in zip(line, widths, right, strict=True)
        ]
        out.append((" " * indent + "  ".join(cells)).rstrip())
    if header:
        out.insert(1, " " * indent + "  ".join("-" * width for width in widths))
    return "\n".join(out)


def _is_number(cell: str) -> bool:
    stripped = cell.replace(",", "").replace("%", "").replace(".", "").strip("+-− ")
    return stripped == "" or stripped.isdigit()
