"""Functions under a comment that documents them."""

import re
from collections.abc import Mapping

from tree_sitter import Node

from data_pipelines.document import FunctionUnit, Span
from data_pipelines.extract.facts import Facts
from data_pipelines.spans import trim

# marks of comments at the ends of a line; tags of XML and HTML, and what only points at other documentation
MARKS = b" \t\r/*!#-=~<>;"
TAG = re.compile(rb"</?[A-Za-z][^<>\n]*>|\{@inherit[Dd]oc\}")


def documented(found: Mapping[str, list[Node]], text: bytes, *, facts: Facts) -> FunctionUnit | None:
    """The unit of one match of facts.functions; None without a comment above it, or without code."""
    node, name, body = found["function"][0], found["name"][0], found["body"][0]
    while node.parent is not None and node.parent.type in facts.around:
        node = node.parent
    doc = _doc_above(node, text, facts)
    code = _code(body, facts)
    if doc is None or code is None:
        return None
    head_end, body_start, body_end = code
    # the mark that ends a statement is no part of it in some grammars
    end = node.end_byte + text.startswith(b";", node.end_byte)
    return FunctionUnit(
        name=text[name.start_byte : name.end_byte].decode(),
        whole=Span(doc.start, end),
        doc=doc,
        head_end=head_end,
        body_start=body_start,
        body_end=body_end,
        doc_chars=_doc_chars(text[doc.start : doc.end]),
        is_stub=bool(facts.stub.match(text[body_start:body_end])),
    )


def _doc_above(node: Node, text: bytes, facts: Facts) -> Span | None:
    """The comments that end on the line above node, or above what may stand between, each on lines of its own.

    A blank line may follow a comment that is marked as doc, but not the first of a file, which speaks of the file.
    """
    # the comment above the first function of a body may stand before the body itself
    while node.prev_sibling is None and node.parent is not None and node.parent.start_byte == node.start_byte:
        node = node.parent
    row, above = node.start_point[0], node.prev_sibling
    while above is not None and above.type in facts.between:
        row, above = above.start_point[0], above.prev_sibling
    first = last = None
    if above is not None and facts.doc_marks and above.start_byte and _last_row(above, text) == row - 2:
        row -= 1
    while above is not None and _is_doc(above, text, facts) and _last_row(above, text) == row - 1:
        first, last = above, last or above
        row, above = above.start_point[0], above.prev_sibling
    return trim(text, Span(first.start_byte, last.end_byte)) if first is not None and last is not None else None


def _is_doc(node: Node, text: bytes, facts: Facts) -> bool:
    line = text[text.rfind(b"\n", 0, node.start_byte) + 1 : node.start_byte]
    comment = text[node.start_byte : node.end_byte]
    return (
        node.type in facts.comments
        and not line.strip()
        and not comment.startswith(b"#!")
        and (not facts.doc_marks or comment.startswith(facts.doc_marks))
    )


def _last_row(node: Node, text: bytes) -> int:
    # some grammars end a line comment after its line break
    comment = text[node.start_byte : node.end_byte]
    return node.start_point[0] + comment.rstrip().count(b"\n")


def _code(body: Node, facts: Facts) -> tuple[int, int, int] | None:
    """Where the head ends, and where the code of a body begins and ends."""
    inner = list(body.children)
    before = body.prev_sibling
    head_end = before.end_byte if before is not None and not facts.openers else 0
    while inner and inner[0].type in facts.openers:
        head_end = inner.pop(0).end_byte
    while inner and inner[-1].type in facts.closers:
        inner.pop()
    return (head_end, inner[0].start_byte, inner[-1].end_byte) if inner and head_end else None


def _doc_chars(doc: bytes) -> int:
    """Characters of prose: lines such as "@param x" list a signature that is shown anyway."""
    lines = [TAG.sub(b"", line).strip(MARKS) for line in doc.split(b"\n")]
    return len(b" ".join(line for line in lines if line and not line.startswith(b"@")).decode("utf-8", "ignore"))
