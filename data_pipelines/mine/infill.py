"""Gaps to fill: syntax nodes by stratum, line ends as at a cursor, and a share of random cuts."""

from collections.abc import Sequence

from data_pipelines.config import InfillSection
from data_pipelines.document import Document, Span, Stratum, Units
from data_pipelines.draw import Draw
from data_pipelines.mine.context import ContextFile
from data_pipelines.mine.row import Row, line_range, provenance_of
from data_pipelines.redact.allow import PLACEHOLDER
from data_pipelines.spans import outside, touches
from finetune.contracts.dataset import Role, Segment, Task

MIN_RANDOM_BYTES = 10
MAX_RANDOM_BYTES = 200
# tries to find a span that is free of placeholders, within the limits, and not chosen already
TRIES_PER_ROW = 8
NO_UNITS = Units(parses=True)


def mine_infill(
    document: Document,
    text: bytes,
    *,
    units: Units,
    context: Sequence[ContextFile],
    section: InfillSection,
    seed: int,
) -> list[Row]:
    """Rows whose prefix, target and suffix are one stretch of the file, byte for byte.

    Rows differ in their spans; equal file, seed and settings give equal rows. context_share of them show context.
    """
    draw = Draw("infill", seed, document.repo, document.path, document.blob)
    wanted = min(section.max_rows_per_file, max(1, len(text) // section.bytes_per_row))
    weights = [(Stratum(name), weight) for name, weight in section.strata]
    if not units.spans:
        # no syntax is known: what is left are random cuts, or nothing when they are switched off
        weights = [(stratum, weight) for stratum, weight in weights if stratum is Stratum.RANDOM and weight]
    chosen: dict[Span, Stratum] = {}
    for _ in range(wanted * TRIES_PER_ROW if weights else 0):
        if len(chosen) == wanted:
            break
        stratum = draw.weighted(weights)
        span = _draw_span(text, stratum, units=units, draw=draw)
        if span is not None and span not in chosen and is_worth_it(text, span, section, units=units):
            chosen[span] = stratum
    rows = []
    for span in sorted(chosen, key=lambda span: (span.start, span.end)):
        shown = context if context and draw.fraction() < section.context_share else ()
        rows.append(_row(document, text, span=span, stratum=chosen[span], context=shown, section=section))
    return rows


def is_worth_it(text: bytes, span: Span, section: InfillSection, *, units: Units = NO_UNITS) -> bool:
    """Whether a target has the right size, says something in code, is no whole file, holds no placeholder or error."""
    target = text[span.start : span.end]
    return (
        section.min_target_bytes <= len(target.strip())
        and len(target) <= section.max_target_bytes
        and (span.start > 0 or span.end < len(text))
        and not PLACEHOLDER.search(text, max(0, span.start - 40), span.end + 40)
        and any(chr(byte).isalnum() for byte in outside(text, span, merged=units.silent))
        and not touches(units.broken, span)
    )


def _draw_span(text: bytes, stratum: Stratum, *, units: Units, draw: Draw) -> Span | None:
    if stratum is Stratum.RANDOM:
        start = draw.below(len(text))
        length = MIN_RANDOM_BYTES + draw.below(MAX_RANDOM_BYTES - MIN_RANDOM_BYTES)
        return Span(_boundary(text, start), _boundary(text, min(len(text), start + length)))
    spans = units.spans.get(stratum, [])
    if not spans:
        return None
    span = draw.pick(spans)
    return _from_cursor(text, span, draw) if stratum is Stratum.LINE else span


def _from_cursor(text: bytes, line: Span, draw: Draw) -> Span:
    """Half of the time the whole code of the line, else from a word inside it to its end, as when a person types."""
    if draw.below(2):
        return line
    code = text[line.start : line.end]
    words = [place for place in range(1, len(code) - 1) if code[place] in b" (.=," and code[place + 1] not in b" \t"]
    return Span(line.start + draw.pick(words) + 1, line.end) if words else line


def _boundary(text: bytes, place: int) -> int:
    """place, or the start of the character it lies in."""
    while 0 < place < len(text) and text[place] & 0xC0 == 0x80:
        place -= 1
    return place


def _row(
    document: Document,
    text: bytes,
    *,
    span: Span,
    stratum: Stratum,
    context: Sequence[ContextFile],
    section: InfillSection,
) -> Row:
    before, after = _window(text, span, section)
    shown = [Segment(role=Role.CONTEXT, text=file.text.decode(), path=file.document.path) for file in context]
    parts = [
        Segment(role=role, text=text[start:end].decode("utf-8"), path=document.path, loss=role is Role.TARGET)
        for role, start, end in (
            (Role.PREFIX, before, span.start),
            (Role.SUFFIX, span.end, after),
            (Role.TARGET, span.start, span.end),
        )
    ]
    sources = [provenance_of(document, line_range(text, span.start, span.end))]
    sources += [provenance_of(file.document, line_range(file.text, 0, len(file.text))) for file in context]
    return Row(
        task=Task.INFILL,
        language=document.language,
        stratum=stratum.value,
        segments=(*shown, *parts),
        provenance=tuple(sources),
        spans=(before, span.start, span.end, after),
        visibility=document.visibility,
    )


def _window(text: bytes, span: Span, section: InfillSection) -> tuple[int, int]:
    """Where the prefix begins and the suffix ends: whole lines within the limits."""
    before = max(0, span.start - section.max_prefix_bytes)
    if before:
        line = text.find(b"\n", before, span.start)
        before = line + 1 if line >= 0 else _boundary(text, before)
    after = min(len(text), span.end + section.max_suffix_bytes)
    if after < len(text):
        line = text.rfind(b"\n", span.end, after)
        after = line + 1 if line >= 0 else _boundary(text, after)
    return before, after
