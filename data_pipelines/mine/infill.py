"""Gaps to fill: syntax nodes by stratum, ends of lines and blocks as at a cursor, and a share of random cuts."""

import re
from collections.abc import Collection, Sequence

from data_pipelines.document import Span, Stratum, Units
from data_pipelines.draw import Draw
from data_pipelines.mine.context import ContextFile
from data_pipelines.mine.picks import Gap
from data_pipelines.mine.row import Row, Source, line_range, provenance_of
from data_pipelines.redact.allow import PLACEHOLDER
from data_pipelines.spans import outside, touches
from data_pipelines.task_config import GapSection, WindowSection
from finetune.contracts.dataset import Role, Segment, Task

MIN_RANDOM_BYTES = 10
MAX_RANDOM_BYTES = 200
# a person who completes a block expects no more at once (Refact's limit)
MAX_TAIL_LINES = 32
# draws of a stratum for each row, and tries in it to find a span within the limits that is not chosen already
DRAWS_PER_ROW, TRIES_PER_DRAW = 2, 6
NO_UNITS = Units(parses=True)
CODE = re.compile(rb"\S")
BLANK_LINE = re.compile(rb"\n[ \t\r]*(?=\n)")
SAYS_SOMETHING = re.compile(rb"[A-Za-z0-9\x80-\xff]")
# lines of comments and imports, for languages whose grammar names no such places
QUIET_LINE = re.compile(
    rb"\s*(?:#(?!\s*(?:include|define|if|ifdef|ifndef|endif|else|elif|pragma|undef|error)\b)|//|--\s"
    rb"|import\s|from\s+\S+\s+import\b)"
)


def pick_gaps(
    text: bytes,
    *,
    units: Units,
    section: GapSection,
    draw: Draw,
    taken: Collection[Span] = (),
) -> tuple[Gap, ...]:
    """Gaps in the order of the text, no two alike and none of them in taken."""
    wanted = min(section.max_rows_per_file, max(1, len(text) // section.bytes_per_row))
    weights = [(Stratum(name), weight) for name, weight in section.strata if weight]
    if not units.spans:
        # no syntax is known: what is left are random cuts, or nothing when they are switched off
        weights = [(stratum, weight) for stratum, weight in weights if stratum is Stratum.RANDOM]
    chosen: dict[Span, Stratum] = {}
    for _ in range(wanted * DRAWS_PER_ROW if weights else 0):
        if len(chosen) == wanted:
            break
        # the weights are those of what is found, so a stratum has several tries before another is drawn
        stratum = draw.weighted(weights)
        for _ in range(TRIES_PER_DRAW):
            span = _draw_span(text, stratum, units=units, draw=draw)
            if span and span not in chosen and span not in taken and is_worth_it(text, span, section, units=units):
                chosen[span] = stratum
                break
    return tuple(Gap(span, chosen[span]) for span in sorted(chosen, key=lambda span: (span.start, span.end)))


def infill_rows(file: Source, text: bytes, *, gaps: Sequence[Gap], section: WindowSection) -> list[Row]:
    """Rows whose prefix, target and suffix are one stretch of the file, byte for byte."""
    return [gap_row(file, text, gap=gap, section=section) for gap in gaps]


def gap_row(
    file: Source,
    text: bytes,
    *,
    gap: Gap,
    section: WindowSection,
    task: Task = Task.INFILL,
    context: Sequence[ContextFile] = (),
) -> Row:
    """The row of one gap, below the context files."""
    span = gap.span
    before, after = window(text, span, max_prefix=section.max_prefix_bytes, max_suffix=section.max_suffix_bytes)
    shown = [Segment(role=Role.CONTEXT, text=part.text.decode(), path=part.document.path) for part in context]
    parts = [
        Segment(role=role, text=text[start:end].decode("utf-8"), path=file.path, loss=role is Role.TARGET)
        for role, start, end in (
            (Role.PREFIX, before, span.start),
            (Role.SUFFIX, span.end, after),
            (Role.TARGET, span.start, span.end),
        )
    ]
    sources = [provenance_of(file, line_range(text, span.start, span.end))]
    sources += [provenance_of(part.document, lines) for part in context for lines in part.lines]
    return Row(
        task=task,
        language=file.language,
        stratum=gap.stratum.value,
        segments=(*shown, *parts),
        provenance=tuple(sources),
        spans=(before, span.start, span.end, after),
        visibility=file.visibility,
    )


def is_worth_it(text: bytes, span: Span, section: GapSection, *, units: Units = NO_UNITS) -> bool:
    """Whether a target has the right size, says something in code, is no whole file, holds no placeholder or error."""
    target = text[span.start : span.end]
    return (
        section.min_target_bytes <= len(target.strip())
        and len(target) <= section.max_target_bytes
        and (span.start > 0 or span.end < len(text))
        and not PLACEHOLDER.search(text, max(0, span.start - 40), span.end + 40)
        and bool(SAYS_SOMETHING.search(outside(text, span, merged=units.silent)))
        and not touches(units.broken, span)
        and not _is_quiet(text, span)
    )


def window(text: bytes, span: Span, *, max_prefix: int, max_suffix: int) -> tuple[int, int]:
    """Where the prefix begins and the suffix ends: whole lines within the limits."""
    before = max(0, span.start - max_prefix)
    if before:
        line = text.find(b"\n", before, span.start)
        before = line + 1 if line >= 0 else boundary(text, before)
    after = min(len(text), span.end + max_suffix)
    if after < len(text):
        line = text.rfind(b"\n", span.end, after)
        after = line + 1 if line >= 0 else boundary(text, after)
    return before, after


def boundary(text: bytes, place: int) -> int:
    """place, or the start of the character it lies in."""
    while 0 < place < len(text) and text[place] & 0xC0 == 0x80:
        place -= 1
    return place


def _is_quiet(text: bytes, span: Span) -> bool:
    start = text.rfind(b"\n", 0, span.start) + 1
    return all(QUIET_LINE.match(line) for line in text[start : span.end].split(b"\n") if line.strip())


def _draw_span(text: bytes, stratum: Stratum, *, units: Units, draw: Draw) -> Span | None:
    if stratum is Stratum.RANDOM:
        start = draw.below(len(text)) if text else 0
        length = MIN_RANDOM_BYTES + draw.below(MAX_RANDOM_BYTES - MIN_RANDOM_BYTES)
        return Span(boundary(text, start), boundary(text, min(len(text), start + length)))
    spans = units.spans.get(Stratum.BLOCK if stratum is Stratum.TAIL else stratum, [])
    if not spans:
        return None
    span = draw.pick(spans)
    if stratum is Stratum.TAIL:
        return _to_block_end(text, span, draw)
    return _from_cursor(text, span, draw) if stratum is Stratum.LINE else span


def _from_cursor(text: bytes, line: Span, draw: Draw) -> Span:
    """Half of the time the whole code of the line, else from a word inside it to its end, as when a person types."""
    if draw.below(2):
        return line
    code = text[line.start : line.end]
    words = [place for place in range(1, len(code) - 1) if code[place] in b" (.=," and code[place + 1] not in b" \t"]
    return Span(line.start + draw.pick(words) + 1, line.end) if words else line


def _to_block_end(text: bytes, block: Span, draw: Draw) -> Span | None:
    """From where a line's code begins to the end of its block, or to the blank line or the 33rd line before that."""
    place = block.start + draw.below(block.end - block.start)
    line = max(block.start, text.rfind(b"\n", 0, place) + 1)
    code = CODE.search(text, line, block.end)
    start = code.start() if code else block.end
    blank = BLANK_LINE.search(text, start, block.end)
    end = blank.start() if blank else block.end
    for _ in range(MAX_TAIL_LINES):
        line = text.find(b"\n", line, end) + 1
        if not line:
            break
    else:
        end = line - 1
    # a block that has no line above its last is one of the stratum "block"
    return Span(start, end) if block.start <= start < end and start > block.start else None
