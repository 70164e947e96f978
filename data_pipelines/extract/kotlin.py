"""Kotlin."""

import tree_sitter_kotlin

from data_pipelines.extract.facts import Facts
from data_pipelines.extract.paths import dotted
from data_pipelines.extract.syntax import SyntaxExtractor

SPANS = """
[(block) (class_body) (enum_class_body)] @inside
(block (_) @statement)
(property_declaration) @statement
[(call_expression) (constructor_invocation) (value_arguments)] @call
[(line_comment) (block_comment) (import) (package_header)] @silent
(import (qualified_identifier) @import)
"""
FUNCTIONS = "(function_declaration name: (_) @name (function_body (block) @body)) @function"


def module_paths(name: str, importer: str) -> list[str]:
    """a.b.C as a/b/C.kt, and a/b.kt for a member, under each folder above the importer."""
    return dotted(name, importer=importer, suffixes=(".kt", ".java"))


EXTRACTOR = SyntaxExtractor(
    Facts(
        language="kotlin",
        grammars=(tree_sitter_kotlin.language,),
        spans=SPANS,
        functions=FUNCTIONS,
        comments=frozenset({"block_comment"}),
        doc_marks=(b"/**",),
        alone=((b"", b""), (b"class X {\n", b"\n}\n")),
        module_paths=module_paths,
    )
)
