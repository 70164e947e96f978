"""Which documented functions teach something: checks of their code and of what their doc says."""

import re
from collections.abc import Iterable

from data_pipelines.document import FunctionUnit, Span
from data_pipelines.mine.words import STOP_WORDS, name_words, prose_words, stem
from data_pipelines.task_config import DocstringSection

CALL_HEAD = re.compile(rb"\s*(?:return\s+|await\s+|yield\s+|from\s+)*[\w$.:>\-!?&*]+\s*(\()")
PAIRS = {ord("("): 1, ord("["): 1, ord("{"): 1, ord(")"): -1, ord("]"): -1, ord("}"): -1}
PARAMETER = re.compile(r"[A-Za-z_]\w*")
DOC_TAG = re.compile(r"^\W*[@:\\]\w+.*$|</?\w[^<>\n]*>", re.MULTILINE)
# words beyond the name from which a doc is taken to tell a behaviour
MIN_NEW_WORDS = 2


def distinct(units: Iterable[FunctionUnit]) -> list[FunctionUnit]:
    """The first unit of each function: a grammar may see two bodies in one."""
    found: dict[Span, FunctionUnit] = {}
    for unit in units:
        found.setdefault(unit.whole, unit)
    return list(found.values())


def qualifies(text: bytes, unit: FunctionUnit, section: DocstringSection) -> bool:
    """Whether the doc is long enough and no restated name, and the code has the right size and is no stub or call."""
    num_lines = text.count(b"\n", unit.body_start, unit.body_end) + 1
    return (
        unit.doc_chars >= section.min_doc_chars
        and not unit.is_stub
        and section.min_body_lines <= num_lines <= section.max_body_lines
        and not is_delegation(text[unit.body_start : unit.body_end])
        and bool(new_words(text, unit))
    )


def is_delegation(code: bytes) -> bool:
    """Whether a body is one call and nothing else, on however many lines."""
    head = CALL_HEAD.match(code)
    if head is None:
        return False
    depth = 0
    for place in range(head.start(1), len(code)):
        depth += PAIRS.get(code[place], 0)
        if depth == 0:
            return not code[place + 1 :].strip(b" \t\r\n;")
    return False


def new_words(text: bytes, unit: FunctionUnit) -> set[str]:
    """Words of the doc's prose that the function's name does not hold."""
    doc = text[unit.doc.start : unit.doc.end].decode("utf-8")
    return prose_words(DOC_TAG.sub(" ", doc)) - {stem(word) for word in name_words(unit.name)}


def tells_behaviour(text: bytes, unit: FunctionUnit) -> bool:
    """Whether the doc names a parameter, or says at least two things that the name does not."""
    doc = text[unit.doc.start : unit.doc.end].decode("utf-8")
    named = set(PARAMETER.findall(doc)) & parameters(text, unit)
    return bool(named) or len(new_words(text, unit)) >= MIN_NEW_WORDS


def parameters(text: bytes, unit: FunctionUnit) -> set[str]:
    """Identifiers between the parentheses of the function's head, types among them."""
    head = text[unit.whole.start : unit.doc.start] if unit.doc.start > unit.whole.start else b""
    head += text[unit.doc.end : unit.head_end]
    _, _, inside = head.decode("utf-8").partition("(")
    return set(PARAMETER.findall(inside)) - STOP_WORDS - {"self", "cls", "this"}


def dedent(code: bytes, indent: bytes) -> bytes | None:
    """code without indent before each line; None when a line that is not blank has less."""
    lines = code.split(b"\n")
    if any(line.strip() and not line.startswith(indent) for line in lines):
        return None
    return b"\n".join(line[len(indent) :] if line.startswith(indent) else line.strip() for line in lines)


def indent_at(text: bytes, place: int) -> bytes | None:
    """The white space before place in its line; None when something else stands there."""
    indent = text[text.rfind(b"\n", 0, place) + 1 : place]
    return None if indent.strip() else indent
