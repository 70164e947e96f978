"""Signature and docstring, or doc comment and signature, to the whole function."""

from collections.abc import Sequence

from data_pipelines.document import FunctionUnit, Units
from data_pipelines.draw import Draw
from data_pipelines.extract.base import Extractor
from data_pipelines.mine.documented import dedent, distinct, indent_at, qualifies
from data_pipelines.mine.row import Row, Source, line_range, provenance_of
from data_pipelines.task_config import DocstringSection
from finetune.contracts.dataset import Role, Segment, Task


def pick_docstring(
    text: bytes, *, units: Units, extractor: Extractor, section: DocstringSection, draw: Draw
) -> tuple[FunctionUnit, ...]:
    """At most max_rows_per_file functions, drawn among those that qualify; each stands alone when it is dedented."""
    found = [
        unit for unit in distinct(units.functions) if qualifies(text, unit, section) and _parts(text, unit) is not None
    ]
    while len(found) > section.max_rows_per_file:
        found.pop(draw.below(len(found)))
    return tuple(unit for unit in found if _stands_alone(text, unit, extractor))


def docstring_rows(file: Source, text: bytes, *, units: Sequence[FunctionUnit]) -> list[Row]:
    """A row for each of the functions that pick_docstring gave for this very text."""
    rows = []
    for unit in units:
        parts = _parts(text, unit)
        assert parts is not None, "not what pick_docstring gave for this text"
        rows.append(_row(file, text, unit=unit, parts=parts))
    return rows


def _stands_alone(text: bytes, unit: FunctionUnit, extractor: Extractor) -> bool:
    parts = _parts(text, unit)
    return parts is not None and extractor.stands_alone(parts[0] + b"\n" + parts[1] + b"\n")


def _parts(text: bytes, unit: FunctionUnit) -> tuple[bytes, bytes] | None:
    """Head (signature and doc) and rest of a function without its indentation; None when lines cannot divide it."""
    indent = indent_at(text, unit.whole.start)
    if indent is None:
        return None
    head = dedent(indent + text[unit.whole.start : unit.head_end], indent)
    rest_start = text.find(b"\n", unit.head_end) + 1
    rest = dedent(text[rest_start : unit.whole.end], indent) if 0 < rest_start <= unit.body_start else None
    return (head, rest) if head is not None and rest is not None else None


def _row(file: Source, text: bytes, *, unit: FunctionUnit, parts: tuple[bytes, bytes]) -> Row:
    head, rest = (part.decode("utf-8") for part in parts)
    return Row(
        task=Task.DOCSTRING,
        language=file.language,
        stratum="",
        segments=(
            Segment(role=Role.INSTRUCTION, text=head, path=file.path),
            Segment(role=Role.ANSWER, text=f"{head}\n{rest}", path=file.path, loss=True),
        ),
        provenance=(provenance_of(file, line_range(text, unit.whole.start, unit.whole.end)),),
        spans=(unit.whole.start, unit.whole.end),
        visibility=file.visibility,
    )
