"""The first step of mining: what of one file becomes rows, whatever other files there are."""

import re
from collections import Counter
from collections.abc import Set
from dataclasses import replace

from data_pipelines.document import FunctionUnit, NamedFunction, Span, Units
from data_pipelines.draw import Draw
from data_pipelines.extract.base import Extractor
from data_pipelines.mine.cases import is_test_path, pick_cases
from data_pipelines.mine.describe import pick_describe
from data_pipelines.mine.docstring import pick_docstring
from data_pipelines.mine.infill import pick_gaps
from data_pipelines.mine.picks import Gap, Picks
from data_pipelines.mine.pretrain import cut_places
from data_pipelines.mine.search_replace import pick_search_replace
from data_pipelines.mine.words import IDENTIFIER, identifier_hashes
from data_pipelines.spans import merge
from data_pipelines.task_config import TasksSection

# one pattern for each, because one for all takes ten times as long
TYPE_NAMES = {
    kind: re.compile(kind + rb"[ \t]+([A-Za-z_]\w{2,})")
    for kind in (
        *(b"class", b"struct", b"interface", b"enum", b"trait", b"type"),
        *(b"record", b"object", b"protocol", b"module", b"union"),
    )
}
BEFORE_TYPE = re.compile(rb"[ \t]*(?:[a-z()]+[ \t]+){0,4}")
MAX_NAMED = 400
MAX_WORDS = 400


def pick(
    text: bytes,
    *,
    path: str,
    blob: str,
    units: Units,
    extractor: Extractor,
    tasks: TasksSection,
    seed: int,
) -> Picks:
    """Equal text, path, blob, settings and seed give equal picks; a task that is off has none.

    The name of the repository plays no part, so that a record can serve each repository that holds the file.
    """
    # what documents a function is no code, in languages too whose grammar does not call it a comment
    units = replace(units, silent=merge([*units.silent, *(unit.doc for unit in units.functions)]))

    names = Counter(IDENTIFIER.findall(text))

    def draw(task: str) -> Draw:
        return Draw(task, seed, path, blob)

    infill: tuple[Gap, ...] = ()
    repo_infill: tuple[Gap, ...] = ()
    search_replace: tuple[Gap, ...] = ()
    if tasks.infill.enabled:
        infill = pick_gaps(text, units=units, section=tasks.infill, draw=draw("infill"))
    taken = {gap.span for gap in infill}
    if tasks.repo_infill.enabled:
        repo_infill = pick_gaps(text, units=units, section=tasks.repo_infill, draw=draw("repo_infill"), taken=taken)
        taken |= {gap.span for gap in repo_infill}
    if tasks.search_replace.enabled:
        search_replace = pick_search_replace(
            text, path=path, units=units, section=tasks.search_replace, draw=draw("search_replace"), taken=taken
        )
    docstring: tuple[FunctionUnit, ...] = ()
    describe: tuple[FunctionUnit, ...] = ()
    if tasks.docstring.enabled:
        docstring = pick_docstring(
            text, units=units, extractor=extractor, section=tasks.docstring, draw=draw("docstring")
        )
    # what documents a test tells of the test, in few words: its name says the same
    if tasks.describe.enabled and not is_test_path(path):
        describe = pick_describe(text, units=units, section=tasks.describe, draw=draw("describe"))
    return Picks(
        num_bytes=len(text),
        infill=infill,
        repo_infill=repo_infill,
        search_replace=search_replace,
        docstring=docstring,
        describe=describe,
        named=tuple(units.named[:MAX_NAMED]),
        types=_types(text, names.keys()),
        cases=pick_cases(text, path=path, units=units, section=tasks.tests) if tasks.tests.enabled else (),
        imports=tuple(units.imports),
        cuts=cut_places(text, named=units.named, max_bytes=tasks.pretrain.max_bytes) if tasks.pretrain.enabled else (),
        words=identifier_hashes(names, limit=MAX_WORDS),
    )


def _types(text: bytes, found: Set[bytes]) -> tuple[NamedFunction, ...]:
    """Classes and the like, with the line that names them; found are the identifiers and keywords of the text."""
    types: list[NamedFunction] = []
    for kind in sorted(TYPE_NAMES.keys() & found):
        for match in TYPE_NAMES[kind].finditer(text):
            start = text.rfind(b"\n", 0, match.start()) + 1
            if BEFORE_TYPE.fullmatch(text, start, match.start()):
                end = text.find(b"\n", match.end())
                name = match.group(1).decode("ascii", "ignore")
                types.append(NamedFunction(name, Span(start, end if end >= 0 else len(text))))
    return tuple(sorted(types, key=lambda item: item.whole.start)[:MAX_NAMED])
