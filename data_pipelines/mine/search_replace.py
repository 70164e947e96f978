"""Search-and-replace infilling (arXiv 2601.13384): a file with a marked gap, to the block that fills it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from data_pipelines.document import Span, Units
from data_pipelines.draw import Draw
from data_pipelines.mine.blocks import Hunk, make_blocks
from data_pipelines.mine.infill import pick_gaps, window
from data_pipelines.mine.picks import Gap
from data_pipelines.mine.row import Row, Source, line_range, provenance_of
from data_pipelines.task_config import SearchReplaceSection
from finetune.contracts.dataset import Role, Segment, Task
from finetune.contracts.edit_blocks import write_blocks

MARK = "<<< THE MISSING PART >>>"
INSTRUCTION = f"A part of the file is missing where {MARK} stands. Answer with the block that puts it there."


@dataclass(frozen=True, slots=True)
class Filled:
    """A window of a file with its gap marked, and the block that gives the window back."""

    shown: str
    answer: str
    start: int
    end: int


def pick_search_replace(
    text: bytes, *, path: str, units: Units, section: SearchReplaceSection, draw: Draw, taken: Collection[Span] = ()
) -> tuple[Gap, ...]:
    """Gaps that one block fills."""
    gaps = pick_gaps(text, units=units, section=section, draw=draw, taken=taken)
    return tuple(gap for gap in gaps if fill(text, gap.span, path=path, section=section) is not None)


def fill(text: bytes, span: Span, *, path: str, section: SearchReplaceSection) -> Filled | None:
    """The task of one gap; None when no block that applies exactly once gives the window back."""
    room = section.max_window_bytes - (span.end - span.start)
    # code is read downwards: two thirds of the window lie above the gap
    start, end = window(text, span, max_prefix=room * 2 // 3, max_suffix=room // 3)
    before, target, after = (
        text[a:b].decode("utf-8") for a, b in ((start, span.start), (span.start, span.end), (span.end, end))
    )
    whole, shown = before + target + after, before + MARK + after
    if MARK in whole:
        return None
    # the lines wholly above and wholly below the gap, as str.splitlines counts them
    above, below = len((before + "x").splitlines()) - 1, len(("x" + after).splitlines()) - 1
    hunk = Hunk(above, len(shown.splitlines()) - below, above, len(whole.splitlines()) - below)
    blocks = make_blocks(shown, whole, [hunk])
    answer = write_blocks(path, blocks) if blocks else None
    return Filled(shown, answer, start, end) if answer is not None else None


def search_replace_rows(file: Source, text: bytes, *, gaps: Sequence[Gap], section: SearchReplaceSection) -> list[Row]:
    """A row for each of the gaps that pick_search_replace gave for this very text, path and section."""
    rows = []
    for gap in gaps:
        filled = fill(text, gap.span, path=file.path, section=section)
        assert filled is not None, "not what pick_search_replace gave for this text"
        rows.append(_row(file, text, gap=gap, filled=filled))
    return rows


def _row(file: Source, text: bytes, *, gap: Gap, filled: Filled) -> Row:
    return Row(
        task=Task.SEARCH_REPLACE,
        language=file.language,
        stratum=gap.stratum.value,
        segments=(
            Segment(role=Role.INSTRUCTION, text=INSTRUCTION),
            Segment(role=Role.CONTEXT, text=filled.shown, path=file.path),
            Segment(role=Role.ANSWER, text=filled.answer, path=file.path, loss=True),
        ),
        provenance=(provenance_of(file, line_range(text, gap.span.start, gap.span.end)),),
        spans=(filled.start, gap.span.start, gap.span.end, filled.end),
        visibility=file.visibility,
    )
