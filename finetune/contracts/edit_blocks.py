"""Search/replace blocks: the form in which rows teach an edit and answers give one. A search occurs exactly once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SEARCH, DIVIDER, REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines, each ending in a line break; replace is "" for a removal, search is never empty."""

    search: str
    replace: str


def apply_blocks(text: str, blocks: Sequence[Block]) -> str | None:
    """The text with each block applied in turn; None when a search does not occur exactly once."""
    for block in blocks:
        places = list(places_of(text, block.search))
        if len(places) != 1:
            return None
        text = text[: places[0]] + block.replace + text[places[0] + len(block.search) :]
    return text


def write_blocks(path: str, blocks: Sequence[Block]) -> str | None:
    """Blocks as text under the path; None when a line of them would read as a marker."""
    if any(_has_marker(part) or not _ends_in_break(part) for block in blocks for part in (block.search, block.replace)):
        return None
    return "".join(f"{path}\n{SEARCH}\n{block.search}{DIVIDER}\n{block.replace}{REPLACE}\n" for block in blocks)


def read_blocks(text: str) -> list[tuple[str, Block]]:
    """The (path, block) pairs of an answer. Raises ValueError with the line where the text is no such list."""
    lines = text.splitlines(keepends=True)
    found: list[tuple[str, Block]] = []
    place = 0
    while place < len(lines):
        try:
            divider = lines.index(DIVIDER + "\n", place)
            end = lines.index(REPLACE + "\n", divider)
        except ValueError:
            raise ValueError(f"line {place + 1}: a block has no end") from None
        if lines[place + 1] != SEARCH + "\n":
            raise ValueError(f"line {place + 2}: {SEARCH} was expected")
        block = Block("".join(lines[place + 2 : divider]), "".join(lines[divider + 1 : end]))
        found.append((lines[place].rstrip("\n"), block))
        place = end + 1
    return found


def places_of(text: str, search: str) -> Iterator[int]:
    """Where search occurs in text at the beginning of a line."""
    place = text.find(search)
    while place >= 0:
        if place == 0 or text[place - 1] == "\n":
            yield place
        place = text.find(search, place + 1)


def _has_marker(part: str) -> bool:
    return any(line.rstrip("\r\n") in (SEARCH, DIVIDER, REPLACE) for line in part.splitlines())


def _ends_in_break(part: str) -> bool:
    return not part or part.endswith("\n")
