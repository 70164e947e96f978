"""A function without its doc, to the doc."""

from collections.abc import Sequence

from data_pipelines.document import FunctionUnit, Units
from data_pipelines.draw import Draw
from data_pipelines.mine.documented import dedent, distinct, indent_at, qualifies, tells_behaviour
from data_pipelines.mine.row import Row, Source, line_range, provenance_of
from data_pipelines.redact.allow import PLACEHOLDER
from data_pipelines.task_config import DescribeSection
from finetune.contracts.dataset import Role, Segment, Task

INSTRUCTION = "Write the documentation of {name}, as it stands in the code."


def pick_describe(text: bytes, *, units: Units, section: DescribeSection, draw: Draw) -> tuple[FunctionUnit, ...]:
    """A share of the functions whose doc tells a behaviour, at most max_rows_per_file."""
    found = [
        unit
        for unit in distinct(units.functions)
        if draw.fraction() < section.share
        and qualifies(text, unit, section)
        and tells_behaviour(text, unit)
        and not PLACEHOLDER.search(text, unit.doc.start, unit.doc.end)
        and _parts(text, unit) is not None
    ]
    while len(found) > section.max_rows_per_file:
        found.pop(draw.below(len(found)))
    return tuple(found)


def describe_rows(file: Source, text: bytes, *, units: Sequence[FunctionUnit]) -> list[Row]:
    """A row for each of the functions that pick_describe gave for this very text.

    The context is the function without the lines of its doc, the answer these lines, both without the indentation.
    """
    rows = []
    for unit in units:
        parts = _parts(text, unit)
        assert parts is not None, "not what pick_describe gave for this text"
        rows.append(_row(file, text, unit=unit, parts=parts))
    return rows


def _parts(text: bytes, unit: FunctionUnit) -> tuple[bytes, bytes] | None:
    """The function without the lines of its doc, and the doc; None when the doc has no lines of its own."""
    indent, doc_indent = indent_at(text, unit.whole.start), indent_at(text, unit.doc.start)
    line_end = text.find(b"\n", unit.doc.end)
    if indent is None or doc_indent is None or line_end < 0 or text[unit.doc.end : line_end].strip():
        return None
    doc_start = unit.doc.start - len(doc_indent)
    start = min(doc_start, unit.whole.start - len(indent))
    code = dedent(text[start:doc_start] + text[line_end + 1 : unit.whole.end], indent)
    doc = dedent(text[doc_start : unit.doc.end], doc_indent)
    return (code, doc) if code is not None and doc is not None else None


def _row(file: Source, text: bytes, *, unit: FunctionUnit, parts: tuple[bytes, bytes]) -> Row:
    code, doc = (part.decode("utf-8") for part in parts)
    return Row(
        task=Task.DESCRIBE,
        language=file.language,
        stratum="",
        segments=(
            Segment(role=Role.INSTRUCTION, text=INSTRUCTION.format(name=unit.name)),
            Segment(role=Role.CONTEXT, text=code, path=file.path),
            Segment(role=Role.ANSWER, text=doc, path=file.path, loss=True),
        ),
        provenance=(provenance_of(file, line_range(text, unit.whole.start, unit.whole.end)),),
        spans=(unit.doc.start, unit.doc.end),
        visibility=file.visibility,
    )
