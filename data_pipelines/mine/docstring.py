"""Signature and docstring, or doc comment and signature, to the whole function."""

from data_pipelines.config import DocstringSection
from data_pipelines.document import Document, FunctionUnit, Units
from data_pipelines.draw import Draw
from data_pipelines.extract.base import Extractor
from data_pipelines.mine.row import Row, line_range, provenance_of
from finetune.contracts.dataset import Role, Segment, Task


def mine_docstring(
    document: Document,
    text: bytes,
    *,
    units: Units,
    extractor: Extractor,
    section: DocstringSection,
    seed: int,
) -> list[Row]:
    """At most max_rows_per_file functions, drawn among those that qualify; each is dedented and stands alone."""
    found = [(unit, code) for unit in units.functions if (code := _code(text, unit, section)) is not None]
    draw = Draw("docstring", seed, document.repo, document.path, document.blob)
    while len(found) > section.max_rows_per_file:
        found.pop(draw.below(len(found)))
    return [
        _row(document, text, unit=unit, code=code)
        for unit, code in found
        if extractor.stands_alone(code[0] + b"\n" + code[1] + b"\n")
    ]


def _code(text: bytes, unit: FunctionUnit, section: DocstringSection) -> tuple[bytes, bytes] | None:
    """Head (signature and doc) and rest of a function without its indentation, None if it does not qualify."""
    num_lines = text.count(b"\n", unit.body_start, unit.body_end) + 1
    if unit.doc_chars < section.min_doc_chars or unit.is_stub:
        return None
    if not section.min_body_lines <= num_lines <= section.max_body_lines:
        return None
    start = text.rfind(b"\n", 0, unit.whole.start) + 1
    indent = text[start : unit.whole.start]
    if indent.strip():
        return None
    head = _dedent(text[start : unit.head_end], indent)
    rest_start = text.find(b"\n", unit.head_end) + 1
    rest = _dedent(text[rest_start : unit.whole.end], indent) if 0 < rest_start <= unit.body_start else None
    return (head, rest) if head is not None and rest is not None else None


def _dedent(code: bytes, indent: bytes) -> bytes | None:
    """code without indent before each line; None when a line that is not blank has less."""
    lines = code.split(b"\n")
    if any(line.strip() and not line.startswith(indent) for line in lines):
        return None
    return b"\n".join(line[len(indent) :] if line.startswith(indent) else line.strip() for line in lines)


def _row(document: Document, text: bytes, *, unit: FunctionUnit, code: tuple[bytes, bytes]) -> Row:
    head, rest = (part.decode("utf-8") for part in code)
    return Row(
        task=Task.DOCSTRING,
        language=document.language,
        stratum="",
        segments=(
            Segment(role=Role.INSTRUCTION, text=head, path=document.path),
            Segment(role=Role.ANSWER, text=f"{head}\n{rest}", path=document.path, loss=True),
        ),
        provenance=(provenance_of(document, line_range(text, unit.whole.start, unit.whole.end)),),
        spans=(unit.whole.start, unit.whole.end),
        visibility=document.visibility,
    )
