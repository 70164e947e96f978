"""Functions whose bodies can be cut out of a file with braces, found in the syntax tree."""

from collections import Counter
from collections.abc import Iterator

from tree_sitter import Language, Node

from data_pipelines.benchmark.functions import MIN_BODY_LINES, Function
from data_pipelines.benchmark.languages.base import MinedLanguage, words
from data_pipelines.extract.syntax import Captures, Grammar

OWNERS = ("class", "interface", "enum", "record")


def find_bodies(path: str, text: str, language: MinedLanguage) -> tuple[list[Function], Counter[str]]:
    """The functions of a file, and how many were left out by reason; those inside functions are part of these."""
    code = text.encode()
    grammar = Grammar(Language(language.facts.grammars[0]()), language.facts)
    root = grammar.root(code)
    if root is None or root.has_error:
        return [], Counter({"the file has a syntax error (counted once a file)": 1})
    left: Counter[str] = Counter()
    lines = text.split("\n")
    found = []
    for match in _outermost(grammar.functions(grammar.captures(root))):
        reason, span = _span(match, lines, language=language)
        if reason:
            left[reason] += 1
        else:
            found.append(_function(path, match, span, lines=lines, code=code, language=language))
    return found, left


def _outermost(matches: list[Captures]) -> Iterator[Captures]:
    end = 0
    for match in matches:
        node = match["function"][0]
        if node.start_byte >= end:
            end = node.end_byte
            yield match


def _span(match: Captures, lines: list[str], *, language: MinedLanguage) -> tuple[str, tuple[int, int]]:
    """ "" and the first and last line (1-based) of what stands between the braces, or why that cannot be cut out."""
    node, body = match["function"][0], match["body"][0]
    reason = dict(language.not_mined).get(node.type, "")
    first, last = body.start_point[0] + 1, body.end_point[0] - 1
    while first <= last and not lines[first].strip():
        first += 1
    while last >= first and not lines[last].strip():
        last -= 1
    if not reason and last - first + 1 < MIN_BODY_LINES:
        reason = f"fewer than {MIN_BODY_LINES} lines of body"
    opening = lines[body.start_point[0]].encode()[body.start_point[1] :]
    closing = lines[body.end_point[0]].encode()[: body.end_point[1]]
    if not reason and (opening.strip() != b"{" or closing.strip() != b"}"):
        reason = "the body shares a line with its braces"
    if not reason and any(sign in line for line in lines[first : last + 1] for sign in "\r\f"):
        reason = "the body has unusual line ends"
    return reason, (first + 1, last + 1)


def _function(
    path: str, match: Captures, span: tuple[int, int], *, lines: list[str], code: bytes, language: MinedLanguage
) -> Function:
    node, (first, last) = match["function"][0], span
    indent = lines[first - 1][: len(lines[first - 1]) - len(lines[first - 1].lstrip(" \t"))]
    kept = language.kept(node, code)

    def body(line: str) -> str:
        return "\n".join(indent + one for one in (*kept, line))

    return Function(
        path=path,
        name=_owner(node, code) + words(match["name"][0], code),
        start=node.start_point[0] + 1,
        first_line=first,
        last_line=last,
        body="\n".join(lines[first - 1 : last]),
        stub=body(language.stub),
        weak=tuple(body(line) for line in dict.fromkeys(language.values(node, code))),
    )


def _owner(node: Node, code: bytes) -> str:
    """The classes around a function, or the type that it is a method of, with a dot behind each."""
    receiver = words(node.child_by_field_name("receiver"), code).strip("()").split(" ")[-1].partition("[")[0]
    names = [receiver.lstrip("*")] if receiver else []
    above = node.parent
    while above is not None:
        name = above.child_by_field_name("name")
        if name is not None and above.type.startswith(OWNERS):
            names.insert(0, words(name, code))
        above = above.parent
    return "".join(f"{name}." for name in names)
