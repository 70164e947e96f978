"""Python by tree-sitter: blocks, statements, calls, functions with docstrings, imports."""

from pathlib import PurePosixPath

import tree_sitter_python
from tree_sitter import Language, Node, Parser, Query, QueryCursor, Tree

from data_pipelines.document import FunctionUnit, Span, Stratum, Units

SYNTAX = """
(block) @block
[(expression_statement) (return_statement) (raise_statement) (assert_statement) (if_statement) (for_statement)
 (while_statement) (with_statement) (try_statement)] @statement
[(call) (argument_list)] @call
[(import_statement) (import_from_statement)] @import
(function_definition) @function
"""
# a line is worth guessing from where its code begins; these say nothing
LINE_SKIP = (b"#", b"import ", b"from ", b'"""', b"'''", b"@", b")", b"]", b"}")
MIN_LINE_BYTES = 4


class PythonExtractor:
    """Extractor of Python 3; the grammar takes the print and exec statements of Python 2 as well."""

    language = "python"

    def __init__(self) -> None:
        self._language = Language(tree_sitter_python.language())
        self._parser = Parser(self._language)
        self._query = Query(self._language, SYNTAX)

    def parses(self, text: bytes) -> bool:
        """Whether the text is free of syntax errors."""
        return not self._parser.parse(text).root_node.has_error

    def units(self, text: bytes) -> Units:
        """Everything that mining needs of a text; nothing but parses=False when it has syntax errors."""
        tree: Tree = self._parser.parse(text)
        if tree.root_node.has_error:
            return Units(parses=False)
        found = QueryCursor(self._query).captures(tree.root_node)
        statements = [node for node in found.get("statement", []) if not _is_docstring(node)]
        spans = {
            Stratum.BLOCK: [_span(node) for node in found.get("block", [])],
            Stratum.STATEMENT: [_span(node) for node in statements],
            Stratum.CALL: [_span(node) for node in found.get("call", [])],
            Stratum.LINE: _lines(text),
        }
        functions = [unit for node in found.get("function", []) if (unit := _documented(node, text))]
        imports = sorted(found.get("import", []), key=lambda node: node.start_byte)
        return Units(
            parses=True,
            spans={stratum: sorted(set(items), key=_order) for stratum, items in spans.items()},
            functions=sorted(functions, key=lambda unit: unit.whole.start),
            imports=list(dict.fromkeys(name for node in imports for name in _imported(node, text))),
        )

    def module_paths(self, name: str, importer: str) -> list[str]:
        """a.b as a/b.py, a/b/__init__.py, a.py, under the top, under src/, or beside the importer."""
        level = len(name) - len(name.lstrip("."))
        folder = PurePosixPath(importer).parent
        for _ in range(level - 1):
            folder = folder.parent
        parts = [part for part in name.lstrip(".").split(".") if part]
        roots = [folder] if level else [PurePosixPath(""), PurePosixPath("src"), folder]
        return [
            str(path)
            for root in roots
            for stem in (root.joinpath(*parts), root.joinpath(*parts[:-1]))
            if stem.name
            for path in (stem.with_name(stem.name + ".py"), stem / "__init__.py")
        ]


def _span(node: Node) -> Span:
    return Span(node.start_byte, node.end_byte)


def _order(span: Span) -> tuple[int, int]:
    return span.start, span.end


def _is_docstring(node: Node) -> bool:
    return (
        node.type == "expression_statement" and node.named_child_count == 1 and node.named_children[0].type == "string"
    )


def _lines(text: bytes) -> list[Span]:
    spans = []
    start = 0
    for line in text.split(b"\n"):
        code = line.strip()
        if len(code) >= MIN_LINE_BYTES and not code.startswith(LINE_SKIP):
            begin = start + len(line) - len(line.lstrip())
            spans.append(Span(begin, begin + len(code)))
        start += len(line) + 1
    return spans


def _documented(node: Node, text: bytes) -> FunctionUnit | None:
    body, name = node.child_by_field_name("body"), node.child_by_field_name("name")
    if body is None or name is None or body.named_child_count < 2:
        return None
    first = body.named_children[0]
    if not _is_docstring(first) or text[first.start_byte : first.start_byte + 1] not in (b'"', b"'", b"r", b"R"):
        return None
    outer = node.parent if node.parent is not None and node.parent.type == "decorated_definition" else node
    return FunctionUnit(
        name=text[name.start_byte : name.end_byte].decode(),
        whole=_span(outer),
        doc=_span(first),
        body_start=body.named_children[1].start_byte,
    )


def _imported(node: Node, text: bytes) -> list[str]:
    def word(part: Node) -> str:
        return text[part.start_byte : part.end_byte].decode()

    if node.type == "import_statement":
        parts = node.children_by_field_name("name")
        return [word(part.child_by_field_name("name") or part) for part in parts]
    module = node.child_by_field_name("module_name")
    if module is None:
        return []
    base = word(module)
    names = [word(part.child_by_field_name("name") or part) for part in node.children_by_field_name("name")]
    # "from a import b" may mean the module a.b; when it does not, a itself is found
    return [base + name if base.endswith(".") else f"{base}.{name}" for name in names] or [base]
