"""Go: what is returned must have the declared types, and an import that nothing uses does not compile."""

import re
from collections.abc import Iterator

from tree_sitter import Node

from data_pipelines.benchmark.languages.base import NOTHING_WRITTEN, MinedLanguage, words
from data_pipelines.extract.go import FACTS

VERSION = re.compile(r"v[0-9]+")


def values(node: Node, text: bytes) -> tuple[str, ...]:
    """The zero of each result, and the first argument where a result is of its type."""
    types = _types(node.child_by_field_name("result"), text)
    named = next(_names(node.child_by_field_name("result")), None) is not None
    zeros = [f"*new({type_})" for type_ in types]
    plain = "return" if named or not types else f"return {', '.join(zeros)}"
    name, type_ = _first_argument(node, text)
    if not name or type_ not in types:
        return (plain,)
    place = types.index(type_)
    return plain, f"return {', '.join([*zeros[:place], name, *zeros[place + 1 :]])}"


def kept(node: Node, text: bytes) -> tuple[str, ...]:
    """A use of each import that the body uses."""
    body, root = node.child_by_field_name("body"), node
    while root.parent is not None:
        root = root.parent
    imports = set(_imports(root, text))
    uses: dict[str, str] = {}
    for inner in _below(body) if body is not None else ():
        package = _package(inner, text)
        if package in imports:
            uses.setdefault(package, f"{'var _' if inner.type == 'qualified_type' else '_ ='} {words(inner, text)}")
    return tuple(uses[package] for package in sorted(uses))


def _below(node: Node) -> Iterator[Node]:
    for child in node.named_children:
        yield child
        yield from _below(child)


def _package(node: Node, text: bytes) -> str:
    """What stands before the dot, where a node is a name of a package."""
    field = {"qualified_type": "package", "selector_expression": "operand"}.get(node.type)
    return words(node.child_by_field_name(field), text) if field else ""


def _imports(root: Node, text: bytes) -> Iterator[str]:
    """The names by which a file knows its packages, as far as paths tell them."""
    for node in _below(root):
        if node.type == "import_spec":
            parts = words(node.child_by_field_name("path"), text).strip('"`').split("/")
            last = parts[-2] if len(parts) > 1 and VERSION.fullmatch(parts[-1]) else parts[-1]
            yield words(node.child_by_field_name("name"), text) or last


def _types(result: Node | None, text: bytes) -> list[str]:
    if result is None:
        return []
    if result.type != "parameter_list":
        return [words(result, text)]
    return [
        words(part.child_by_field_name("type"), text)
        for part in result.named_children
        if part.type == "parameter_declaration"
        for _ in part.children_by_field_name("name") or (None,)
    ]


def _names(parameters: Node | None) -> Iterator[Node]:
    for part in parameters.named_children if parameters is not None else ():
        yield from part.children_by_field_name("name")


def _first_argument(node: Node, text: bytes) -> tuple[str, str]:
    """Its name and its type; "" twice where there is none, or it has no name."""
    given = node.child_by_field_name("parameters")
    parts = [part for part in given.named_children if part.type == "parameter_declaration"] if given is not None else []
    name = words(parts[0].child_by_field_name("name"), text) if parts else ""
    return (name, words(parts[0].child_by_field_name("type"), text)) if name not in ("", "_") else ("", "")


LANGUAGE = MinedLanguage(
    facts=FACTS,
    runner="go",
    suffixes=(".go",),
    serves_tests=lambda path: path.endswith("_test.go"),
    stub=f"panic({NOTHING_WRITTEN})",
    values=values,
    kept=kept,
)
