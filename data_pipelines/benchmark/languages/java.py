"""Java: what is returned must have the declared type."""

from tree_sitter import Node

from data_pipelines.benchmark.languages.base import NOTHING_WRITTEN, MinedLanguage, in_test_folder, words
from data_pipelines.extract.java import FACTS

ZEROS = {"integral_type": "0", "floating_point_type": "0", "boolean_type": "false"}
EMPTY = {"String": '""', "boolean": "true", "int": "1", "long": "1"}


def values(node: Node, text: bytes) -> tuple[str, ...]:
    """The zero of the type or null, and the first argument of that type or a value that is as easy."""
    type_ = node.child_by_field_name("type")
    if type_ is None or type_.type == "void_type":
        return ("return;",)
    name = words(type_, text)
    other = _argument_of(name, node, text) or EMPTY.get(name)
    return tuple(f"return {value};" for value in (ZEROS.get(type_.type, "null"), other) if value)


def _argument_of(type_: str, node: Node, text: bytes) -> str:
    given = node.child_by_field_name("parameters")
    for part in given.named_children if given is not None else ():
        if words(part.child_by_field_name("type"), text) == type_ and not part.child_by_field_name("dimensions"):
            return words(part.child_by_field_name("name"), text)
    return ""


LANGUAGE = MinedLanguage(
    facts=FACTS,
    runner="java",
    suffixes=(".java",),
    serves_tests=in_test_folder,
    stub=f"throw new UnsupportedOperationException({NOTHING_WRITTEN});",
    values=values,
    # it must set final fields and call others first
    not_mined=(("constructor_declaration", "a constructor"),),
)
