"""Search/replace blocks from two texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from finetune.contracts.edit_blocks import Block, apply_blocks, places_of

# changes that lie closer than this become one block
MAX_GAP_LINES = 3
MIN_CONTEXT_LINES = 1


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
    while grown < MIN_CONTEXT_LINES or start == end or len(list(places_of(before, "".join(old[start:end])))) != 1:
        if start == floor and end == ceiling:
            break
        start, end = max(floor, start - 1), min(ceiling, end + 1)
        grown += 1
    search = "".join(old[start:end])
    if not search or len(list(places_of(before, search))) != 1:
        return None
    replace = "".join([*old[start : hunk.start], *new[hunk.new_start : hunk.new_end], *old[hunk.end : end]])
    return Block(search, replace)
