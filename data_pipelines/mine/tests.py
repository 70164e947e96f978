"""A function in its file, to tests for it that people wrote. Nobody ran them: the stratum is "linked"."""

from data_pipelines.document import NamedFunction, Span
from data_pipelines.mine.card import FileCard, Load, LoadedFile
from data_pipelines.mine.context import head_of
from data_pipelines.mine.documented import dedent
from data_pipelines.mine.head import code_start
from data_pipelines.mine.infill import window
from data_pipelines.mine.links import Link, LinkIndex
from data_pipelines.mine.picks import CaseUnit
from data_pipelines.mine.row import Row, line_range, provenance_of
from data_pipelines.task_config import TestsSection
from finetune.contracts.dataset import Role, Segment, Task

STRATUM = "linked"
INSTRUCTION = "Write tests for {name} in {path}."


def rows_of_tests(
    loaded: LoadedFile, card: FileCard, *, index: LinkIndex, load: Load, section: TestsSection
) -> list[Row]:
    """Rows for the functions that the tests in a file speak of, those with the most tests first chosen.

    load is called with paths of the index alone. The first provenance is that of the tests, which are learned.
    """
    links = index.links(loaded, card) if loaded.picks.cases else []
    chosen = sorted(links, key=lambda link: -len(link.cases))[: section.max_rows_per_file]
    rows = []
    for link in sorted(chosen, key=lambda link: link.cases[0].span.start):
        source = loaded if link.path == card.path else load(link.path)
        row = _row(loaded, source, link=link, section=section)
        if row is not None:
            rows.append(row)
    return rows


def _row(loaded: LoadedFile, source: LoadedFile, *, link: Link, section: TestsSection) -> Row | None:
    function = next((item for item in source.picks.named if item.name == link.name), None)
    if function is None:
        function = next((item for item in source.picks.types if item.name == link.name), None)
    shown = _shown(source, function, same=source is loaded, section=section) if function else None
    cases = _within(link.cases, section)
    answer = _answer(loaded.text, cases)
    if shown is None or answer is None:
        return None
    head = Span(0, 0) if source is loaded else _head(loaded, section)
    context = [(source, shown), (loaded, head)]
    context = [(item, span) for item, span in context if item.text[span.start : span.end].strip()]
    places = [(loaded, case.span) for case in cases] + context
    return Row(
        task=Task.TESTS,
        language=loaded.file.language,
        stratum=STRATUM,
        segments=(
            Segment(role=Role.INSTRUCTION, text=INSTRUCTION.format(name=link.name, path=link.path)),
            *(
                Segment(role=Role.CONTEXT, text=item.text[span.start : span.end].decode("utf-8"), path=item.file.path)
                for item, span in context
            ),
            Segment(role=Role.ANSWER, text=answer.decode("utf-8"), path=loaded.file.path, loss=True),
        ),
        provenance=tuple(
            provenance_of(item.file, line_range(item.text, span.start, span.end)) for item, span in places
        ),
        spans=tuple(place for _, span in places for place in (span.start, span.end)),
        visibility=loaded.file.visibility,
    )


def _shown(source: LoadedFile, function: NamedFunction, *, same: bool, section: TestsSection) -> Span | None:
    """Whole lines around the function; where the tests lie in the same file, those above the first of them."""
    first_case = min((case.span.start for case in source.picks.cases), default=len(source.text))
    end = first_case if same else len(source.text)
    room = section.max_source_bytes - (function.whole.end - function.whole.start)
    if room < 0 or function.whole.end > end:
        return None
    start, stop = window(source.text, function.whole, max_prefix=room // 2, max_suffix=room // 2)
    return Span(start, min(stop, end))


def _head(loaded: LoadedFile, section: TestsSection) -> Span:
    """What stands above the first test, below the licence."""
    start = code_start(loaded.text)
    end = max(start, min(case.span.start for case in loaded.picks.cases))
    return Span(start, start + len(head_of(loaded.text[start:end], section.max_head_bytes)))


def _within(cases: tuple[CaseUnit, ...], section: TestsSection) -> list[CaseUnit]:
    chosen: list[CaseUnit] = []
    left = section.max_test_bytes
    for case in cases[: section.max_tests_per_row]:
        if case.span.end - case.span.start <= left:
            chosen.append(case)
            left -= case.span.end - case.span.start
    return chosen


def _answer(text: bytes, cases: list[CaseUnit]) -> bytes | None:
    """The tests without their common indentation, a blank line between them."""
    parts = []
    for case in cases:
        code = text[case.span.start : case.span.end].rstrip()
        part = dedent(code, code[: len(code) - len(code.lstrip())])
        if part is None:
            return None
        parts.append(part)
    return b"\n\n".join(parts) + b"\n" if parts else None
