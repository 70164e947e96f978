"""Search/replace blocks: made from two texts, written, read back, applied. A search occurs exactly once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

SEARCH, DIVIDER, REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"
# changes that lie closer than this become one block
MAX_GAP_LINES = 3
MIN_CONTEXT_LINES = 1


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines, each ending in a line break; replace is "" for a removal, search is never empty."""

    search: str
    replace: str


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines [start, end) of the text before that become lines [new_start, new_end) of the text after."""

    start: int
    end: int
    new_start: int
    new_end: int

    @property
    def num_changed_lines(self) -> int:
        return (self.end - self.start) + (self.new_end - self.new_start)


def find_hunks(before: Sequence[str], after: Sequence[str]) -> list[Hunk]:
    """Where two lists of lines differ, changes close to one another joined."""
    top = _common(before, after)
    bottom = _common(before[top:][::-1], after[top:][::-1])
    matcher = SequenceMatcher(
        None, before[top : len(before) - bottom], after[top : len(after) - bottom], autojunk=False
    )
    hunks: list[Hunk] = []
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        hunk = Hunk(top + start, top + end, top + new_start, top + new_end)
        if hunks and hunk.start - hunks[-1].end < MAX_GAP_LINES:
            hunk = Hunk(hunks[-1].start, hunk.end, hunks.pop().new_start, hunk.new_end)
        hunks.append(hunk)
    return hunks


def make_blocks(before: str, after: str, hunks: Sequence[Hunk]) -> list[Block] | None:
    """One block per hunk, with as many lines around it as make its search unique; None when that cannot be done."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    blocks = []
    for place, hunk in enumerate(hunks):
        floor = hunks[place - 1].end if place else 0
        ceiling = hunks[place + 1].start if place + 1 < len(hunks) else len(old)
        block = _unique(before, old, new, hunk=hunk, floor=floor, ceiling=ceiling)
        if block is None:
            return None
        blocks.append(block)
    return blocks if apply_blocks(before, blocks) == after else None


def apply_blocks(text: str, blocks: Sequence[Block]) -> str | None:
    """The text with each block applied in turn; None when a search does not occur exactly once."""
    for block in blocks:
        places = list(_places(text, block.search))
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


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _unique(before: str, old: list[str], new: list[str], *, hunk: Hunk, floor: int, ceiling: int) -> Block | None:
    start, end = hunk.start, hunk.end
    grown = 0
    while grown < MIN_CONTEXT_LINES or start == end or len(list(_places(before, "".join(old[start:end])))) != 1:
        if start == floor and end == ceiling:
            break
        start, end = max(floor, start - 1), min(ceiling, end + 1)
        grown += 1
    search = "".join(old[start:end])
    if not search or len(list(_places(before, search))) != 1:
        return None
    replace = "".join([*old[start : hunk.start], *new[hunk.new_start : hunk.new_end], *old[hunk.end : end]])
    return Block(search, replace)


def _places(text: str, search: str) -> Iterator[int]:
    place = text.find(search)
    while place >= 0:
        if place == 0 or text[place - 1] == "\n":
            yield place
        place = text.find(search, place + 1)


def _has_marker(part: str) -> bool:
    return any(line.rstrip("\r\n") in (SEARCH, DIVIDER, REPLACE) for line in part.splitlines())


def _ends_in_break(part: str) -> bool:
    return not part or part.endswith("\n")
