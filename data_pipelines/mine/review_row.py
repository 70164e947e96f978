"""The row of a fix: the comments, the file before, and search/replace blocks that make the file after."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from data_pipelines.document import Origin
from data_pipelines.extract.registry import extractor_for
from data_pipelines.filters.language import language_of
from data_pipelines.mine.blocks import Hunk, find_hunks, make_blocks
from data_pipelines.mine.review_fix import Fix, NoFix, Read, lines_of, split_lines
from data_pipelines.mine.review_text import instruction
from data_pipelines.mine.row import Row, provenance
from data_pipelines.redact.form import Form, form_of
from data_pipelines.sources.forge.records import Kind
from data_pipelines.task_config import ReviewFixSection
from finetune.contracts.dataset import Role, Segment, Task
from finetune.contracts.edit_blocks import apply_blocks, write_blocks

SUGGESTED = re.compile(r"```[ \t]*suggestion[^\n]*\n(.*?)\n?```", re.DOTALL)
# the upper bound for issue threads in StarCoder's filters
MAX_INSTRUCTION_CHARS = 7000


class Redacts(Protocol):
    """Who takes secrets and persons out of a text that is kept, and counts them. Raises ScanFailed."""

    def redact(self, text: str, form: Form) -> str: ...


@dataclass(frozen=True, slots=True)
class FixOrigin:
    """What provenance says of a fix; origin is that of its commit, with the hashed author."""

    repo: str
    visibility: str
    origin: Origin
    license: str | None


@dataclass(frozen=True, slots=True)
class MadeFix:
    """The row of a fix, with its whole file before and after, redacted."""

    row: Row
    before: str
    after: str


class _Unusable(Exception):
    """Fixes that give no row; the text is the reason."""


def review_fix_row(
    fixes: Sequence[Fix], origin: FixOrigin, *, read: Read, redactor: Redacts, section: ReviewFixSection
) -> Row | NoFix:
    """The row of the fixes that one commit made in one file (see by_change), or why there is none. Raises ScanFailed.

    The caller has checked the path: it is wanted, first-party and holds no secret.
    """
    made = make_fix(fixes, origin, read=read, redactor=redactor, section=section)
    return made.row if isinstance(made, MadeFix) else made


def make_fix(
    fixes: Sequence[Fix], origin: FixOrigin, *, read: Read, redactor: Redacts, section: ReviewFixSection
) -> MadeFix | NoFix:
    """What review_fix_row gives, with the texts that tell near-duplicates."""
    try:
        return _made(fixes, origin, read=read, redactor=redactor, section=section)
    except _Unusable as unusable:
        return NoFix(str(unusable))


def _made(
    fixes: Sequence[Fix], origin: FixOrigin, *, read: Read, redactor: Redacts, section: ReviewFixSection
) -> MadeFix:
    change, path = fixes[0].change, fixes[0].thread.path
    before, after = (_text(blob, path, read=read, redactor=redactor) for blob in (change.before, change.after))
    text = redactor.redact(instruction(fixes, split_lines(before)), Form.PROSE)
    if len(text) > MAX_INSTRUCTION_CHARS:
        raise _Unusable(f"the comments are longer than {MAX_INSTRUCTION_CHARS} characters")
    hunks = _hunks(before, after, section)
    blocks = make_blocks(before, after, hunks)
    if not blocks:
        raise _Unusable("cannot be written as blocks that apply exactly")
    answer = write_blocks(path, blocks)
    if answer is None:
        raise _Unusable("a line reads like a marker of a block, or the last has no end")
    lines = before.splitlines(keepends=True)
    first, last = excerpt_of(lines, hunks, marks=[fix.line for fix in fixes], max_bytes=section.max_before_bytes)
    shown = "".join(lines[first:last])
    if apply_blocks(shown, blocks) is None:
        raise _Unusable("a search block lies outside of the excerpt")
    grown = sum((hunk.new_end - hunk.new_start) - (hunk.end - hunk.start) for hunk in hunks)
    row = Row(
        task=Task.REVIEW_FIX,
        language=language_of(path, before) or "",
        stratum=_kind(fixes, after),
        segments=(
            Segment(role=Role.INSTRUCTION, text=text),
            Segment(role=Role.CONTEXT, text=shown, path=path),
            Segment(role=Role.ANSWER, text=answer, loss=True),
        ),
        provenance=(
            provenance(
                origin.repo,
                origin.origin,
                path=path,
                blob=change.after,
                lines=(first + 1, max(first + 1, last + grown)),
                license_name=origin.license,
            ),
        ),
        spans=tuple(number for fix in fixes for number in (fix.thread.request_id, fix.line)),
        visibility=origin.visibility,
    )
    return MadeFix(row, before, after)


def excerpt_of(lines: Sequence[str], hunks: Sequence[Hunk], *, marks: Sequence[int], max_bytes: int) -> tuple[int, int]:
    """Which lines [first, last) of the file before are shown: all changes and commented lines (marks, from 1) with as
    much around them as max_bytes allow, evenly above and below; a file that is small enough goes whole."""
    sizes = [len(line.encode("utf-8")) for line in lines]
    first = min(*(hunk.start for hunk in hunks), *(mark - 1 for mark in marks))
    last = min(len(lines), max(*(hunk.end for hunk in hunks), *marks))
    left = max_bytes - sum(sizes[first:last])
    if left < 0:
        raise _Unusable(f"the changes lie further apart than {max_bytes} bytes")
    while (first > 0 and sizes[first - 1] <= left) or (last < len(lines) and sizes[last] <= left):
        if first > 0 and sizes[first - 1] <= left:
            first -= 1
            left -= sizes[first]
        if last < len(lines) and sizes[last] <= left:
            left -= sizes[last]
            last += 1
    return first, last


def _text(blob: str, path: str, *, read: Read, redactor: Redacts) -> str:
    lines = lines_of(blob, read)
    if lines is None:
        raise _Unusable("a version of the file is missing, too large, or no text")
    clean = redactor.redact("".join(lines), form_of(path))
    if not extractor_for(language_of(path, clean) or "").parses(clean.encode("utf-8")):
        raise _Unusable("syntax errors before or after the fix")
    return clean


def _hunks(before: str, after: str, section: ReviewFixSection) -> list[Hunk]:
    if before.split() == after.split():
        raise _Unusable("changes white space only")
    hunks = find_hunks(before.splitlines(keepends=True), after.splitlines(keepends=True))
    if len(hunks) > section.max_hunks:
        raise _Unusable(f"more than {section.max_hunks} hunks")
    if sum(hunk.num_changed_lines for hunk in hunks) > section.max_changed_lines:
        raise _Unusable(f"more than {section.max_changed_lines} changed lines")
    return hunks


def _kind(fixes: Sequence[Fix], after: str) -> str:
    """Suggestion when a suggested change was taken word for word, as far as white space goes."""
    flat = " ".join(after.split())
    for fix in fixes:
        suggested = SUGGESTED.findall(fix.thread.comments[0].text)
        if any(" ".join(text.split()) in flat for text in suggested if text.strip()):
            return Kind.SUGGESTION
    return Kind.COMMENT
