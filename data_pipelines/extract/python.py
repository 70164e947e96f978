"""Python: docstrings stand inside their functions, and what an import means depends on its dots."""

import re
from pathlib import PurePosixPath

import tree_sitter_python
from tree_sitter import Node

from data_pipelines.document import FunctionUnit, Span
from data_pipelines.extract.facts import Facts
from data_pipelines.extract.syntax import Captures, SyntaxExtractor

SPANS = """
(block) @block
[(expression_statement) (return_statement) (raise_statement) (assert_statement) (if_statement) (for_statement)
 (while_statement) (with_statement) (try_statement)] @statement
[(call) (argument_list)] @call
[(import_statement) (import_from_statement)] @import
"""
FUNCTIONS = "(function_definition) @function"
# a line is worth guessing from where its code begins; these say nothing
LINE_SKIP = (b"#", b"import ", b"from ", b'"""', b"'''", b"@", b")", b"]", b"}")
# bodies that say nothing: stubs, abstract methods
STUB = re.compile(rb"^\s*(?:pass|\.\.\.|raise\s+NotImplemented\w*(?:\(.*\))?|return(?:\s+None)?)\s*$", re.DOTALL)


def module_paths(name: str, importer: str) -> list[str]:
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


FACTS = Facts(
    language="python",
    grammars=(tree_sitter_python.language,),
    spans=SPANS,
    functions=FUNCTIONS,
    line_skip=LINE_SKIP,
    stub=STUB,
    module_paths=module_paths,
)


class PythonExtractor(SyntaxExtractor):
    """Extractor of Python 3; the grammar takes the print and exec statements of Python 2 as well."""

    def __init__(self) -> None:
        super().__init__(FACTS)

    def _statements(self, found: Captures) -> list[Node]:
        return [node for node in found.get("statement", []) if not _is_docstring(node)]

    def _function(self, match: Captures, text: bytes) -> FunctionUnit | None:
        return _documented(match["function"][0], text)

    def _imports(self, found: Captures, text: bytes) -> list[str]:
        nodes = sorted(found.get("import", []), key=lambda node: node.start_byte)
        return list(dict.fromkeys(name for node in nodes for name in _imported(node, text)))


EXTRACTOR = PythonExtractor()


def _is_docstring(node: Node) -> bool:
    return (
        node.type == "expression_statement" and node.named_child_count == 1 and node.named_children[0].type == "string"
    )


def _documented(node: Node, text: bytes) -> FunctionUnit | None:
    body, name = node.child_by_field_name("body"), node.child_by_field_name("name")
    if body is None or name is None or body.named_child_count < 2:
        return None
    first = body.named_children[0]
    if not _is_docstring(first) or text[first.start_byte : first.start_byte + 1] not in (b'"', b"'", b"r", b"R"):
        return None
    outer = node.parent if node.parent is not None and node.parent.type == "decorated_definition" else node
    doc = text[first.start_byte : first.end_byte].strip(b"rRbB").strip(b"\"' \t\r\n")
    start = body.named_children[1].start_byte
    return FunctionUnit(
        name=text[name.start_byte : name.end_byte].decode(),
        whole=Span(outer.start_byte, outer.end_byte),
        doc=Span(first.start_byte, first.end_byte),
        head_end=first.end_byte,
        body_start=start,
        body_end=outer.end_byte,
        doc_chars=len(doc.decode("utf-8")),
        is_stub=bool(STUB.match(text[start : outer.end_byte])),
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
