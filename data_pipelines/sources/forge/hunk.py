"""Where a line of a diff stands in the files before and after, from a hunk as the forges store it."""

import re
from dataclasses import dataclass

HEADER = re.compile(r"^@@ -(\d{1,9})(?:,\d+)? \+(\d{1,9})(?:,\d+)? @@")


@dataclass(frozen=True, slots=True)
class HunkEnd:
    """The last line of a hunk: its text, and its number after the change, or where it stood before if removed."""

    new_line: int
    text: str
    is_removed: bool


def end_of_hunk(diff_hunk: str) -> HunkEnd | None:
    """The last line of a hunk, the one that GitHub's comment is about; None when the text is no hunk with lines.

    A removed line has the number of the line that follows it in the new file.
    """
    lines = diff_hunk.split("\n")
    header = HEADER.match(lines[0])
    body = [line for line in lines[1:] if not line.startswith("\\")]
    while body and not body[-1]:
        body.pop()
    if header is None or not body:
        return None
    num_new = sum(not line.startswith("-") for line in body)
    is_removed = body[-1].startswith("-")
    line = int(header[2]) + num_new - (0 if is_removed else 1)
    return HunkEnd(max(1, line), body[-1][1:].rstrip("\r"), is_removed)
