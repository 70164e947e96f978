"""The extractor that all grammars share: a language gives it facts, and code only where facts cannot say it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from time import thread_time

import numpy as np
from numpy.typing import NDArray
from tree_sitter import Language, Node, Parser, Query, QueryCursor

from data_pipelines.document import FunctionUnit, NamedFunction, Span, Stratum, Units
from data_pipelines.extract.facts import Facts
from data_pipelines.extract.functions import documented
from data_pipelines.spans import SpanList, loud_before, merge, touches, trim

MIN_LINE_BYTES = 4
SPACE = ord(" ")
# real code takes a fraction of one; a grammar may look long for sense in a text that has none
MAX_PARSE_SECONDS = 10.0
# the parser asks whether to go on every 20 microseconds or so; the clock is a call of the system
CALLS_PER_LOOK = 64
READ_BYTES, WORD_BYTES = 1 << 16, 64
QUOTES = b"\"'`<>"
PARTS_OF_FUNCTION = "name", "body"
Captures = Mapping[str, list[Node]]


class Grammar:
    """A parser and the queries for it, compiled when they are needed: texts of edits are only parsed."""

    def __init__(self, language: Language, facts: Facts) -> None:
        self._language, self._facts = language, facts
        self.parser = Parser(language)

    @cached_property
    def _spans(self) -> Query:
        # one walk of the tree finds the functions too; which name and body belong together is asked at each of them
        query = Query(self._language, self._facts.spans + self._facts.functions)
        for name in PARTS_OF_FUNCTION:
            query.disable_capture(name)
        return query

    @cached_property
    def _functions(self) -> Query:
        return Query(self._language, self._facts.functions)

    def captures(self, root: Node) -> Captures:
        """What the query of spans finds below root, and the nodes of functions, in no order."""
        return QueryCursor(self._spans).captures(root)

    def functions(self, found: Captures) -> list[Captures]:
        """The matches of the query of functions for what captures found, an outer function before those inside it."""
        at_node = QueryCursor(self._functions)
        at_node.set_max_start_depth(0)
        nodes = sorted(found.get("function", []), key=lambda node: (node.start_byte, -node.end_byte))
        return [match for node in nodes for _, match in at_node.matches(node)]

    def root(self, text: bytes) -> Node | None:
        """The root of the text's tree; None when parsing takes more processor time than MAX_PARSE_SECONDS."""
        end = thread_time() + MAX_PARSE_SECONDS
        num_calls, num_bytes = 0, READ_BYTES

        def is_late(*_: object) -> bool:
            nonlocal num_calls
            num_calls += 1
            return num_calls % CALLS_PER_LOOK == 0 and thread_time() > end

        try:
            tree = self.parser.parse(lambda place, _: text[place : place + num_bytes], progress_callback=is_late)
        except ValueError:
            self.parser.reset()
            return None
        # a query that compares words reads each of them anew
        num_bytes = WORD_BYTES
        return tree.root_node


class SyntaxExtractor:
    """Extractor of one language by its facts."""

    def __init__(self, facts: Facts) -> None:
        self.language = facts.language
        self._facts = facts
        # a line is worth guessing from where its code begins to where it ends
        skip = b"|".join(map(re.escape, facts.line_skip))
        self._line = re.compile(rb"^[^\S\n]*(?!%s)(\S[^\n]{%d,}\S)" % (skip or b"\n", MIN_LINE_BYTES - 2), re.MULTILINE)
        self._grammars = [Grammar(Language(capsule()), facts) for capsule in facts.grammars]

    def parses(self, text: bytes) -> bool:
        """Whether the text has no more syntax errors than the language forgives."""
        parsed = self._parse(text)
        return parsed is not None and self._forgives(broken_spans(parsed[0]), text)

    def stands_alone(self, code: bytes) -> bool:
        """Whether a function has no syntax error outside its file."""
        trees = (self._parse(before + code + after) for before, after in self._facts.alone)
        return any(parsed is not None and not parsed[0].has_error for parsed in trees)

    def units(self, text: bytes) -> Units:
        """Everything that mining needs of a text; nothing but parses=False when it has too many syntax errors."""
        parsed = self._parse(text)
        broken = broken_spans(parsed[0]) if parsed else []
        if parsed is None or not self._forgives(broken, text):
            return Units(parses=False)
        root, grammar = parsed
        found = grammar.captures(root)
        silent = merge(Span(*_trimmed(text, *place)) for place in _places(found.get("silent", [])))
        inside = [_inside(node) for node in found.get("inside", []) if node.named_child_count]
        spans = {
            Stratum.BLOCK: _places(found.get("block", [])) + [_trimmed(text, *place) for place in inside],
            Stratum.STATEMENT: _places(self._statements(found)),
            Stratum.CALL: _places(found.get("call", [])),
            Stratum.LINE: [match.span(1) for match in self._line.finditer(text)],
        }
        loud = loud_before(text, silent)
        matches = grammar.functions(found)
        functions = [
            unit
            for match in matches
            if (unit := self._function(match, text)) is not None and not touches(broken, unit.whole)
        ]
        return Units(
            parses=True,
            spans={stratum: _worthwhile(items, loud=loud, broken=broken) for stratum, items in spans.items()},
            functions=sorted(functions, key=lambda unit: unit.whole.start),
            named=sorted(_named(matches, text), key=lambda function: (function.whole.start, function.whole.end)),
            imports=self._imports(found, text),
            silent=silent,
            broken=broken,
        )

    def module_paths(self, name: str, importer: str) -> list[str]:
        """Paths in the repository that the import `name` in the file `importer` may mean, best first."""
        return self._facts.module_paths(name, importer)

    def _parse(self, text: bytes) -> tuple[Node, Grammar] | None:
        """The tree of the first grammar that finds no error, else that of the first; None when none came to an end."""
        first = None
        for grammar in self._grammars:
            root = grammar.root(text)
            if root is not None and not root.has_error:
                return root, grammar
            first = first or ((root, grammar) if root is not None else None)
        return first

    def _forgives(self, broken: list[Span], text: bytes) -> bool:
        return sum(span.end - span.start for span in broken) <= self._facts.max_error_share * len(text)

    def _statements(self, found: Captures) -> list[Node]:
        return found.get("statement", [])

    def _function(self, match: Captures, text: bytes) -> FunctionUnit | None:
        return documented(match, text, facts=self._facts)

    def _imports(self, found: Captures, text: bytes) -> list[str]:
        nodes = sorted(found.get("import", []), key=lambda node: node.start_byte)
        return list(dict.fromkeys(text[node.start_byte : node.end_byte].strip(QUOTES).decode() for node in nodes))


def broken_spans(root: Node) -> list[Span]:
    """Where the syntax errors lie; a token that is missing takes one byte."""
    found, left = [], [root] if root.has_error else []
    while left:
        node = left.pop()
        if node.is_error or node.is_missing:
            found.append(Span(node.start_byte, max(node.end_byte, node.start_byte + 1)))
        else:
            left += [child for child in node.children if child.has_error]
    return merge(found)


def _named(matches: Iterable[Captures], text: bytes) -> Iterator[NamedFunction]:
    for match in matches:
        node = match["function"][0]
        name = match["name"][0] if "name" in match else node.child_by_field_name("name")
        if name is not None:
            yield NamedFunction(text[name.start_byte : name.end_byte].decode("utf-8", "replace"), _span(node))


def _span(node: Node) -> Span:
    return Span(node.start_byte, node.end_byte)


def _inside(node: Node) -> tuple[int, int]:
    first, last = node.named_child(0), node.named_child(node.named_child_count - 1)
    assert first is not None and last is not None
    return first.start_byte, last.end_byte


def _places(nodes: Iterable[Node]) -> list[tuple[int, int]]:
    return [(node.start_byte, node.end_byte) for node in nodes]


def _trimmed(text: bytes, start: int, end: int) -> tuple[int, int]:
    if start < end and text[start] > SPACE and text[end - 1] > SPACE:
        return start, end
    span = trim(text, Span(start, end))
    return span.start, span.end


def _worthwhile(spans: Sequence[tuple[int, int]], *, loud: NDArray[np.int32], broken: list[Span]) -> SpanList:
    """The different spans that hold more than silent places and touch no broken one, in order."""
    found = SpanList.of(spans)
    says = loud[found.ends] > loud[found.starts]
    if broken:
        says &= ~found.touching(broken)
    return SpanList(found.starts[says], found.ends[says]).sorted_unique()
