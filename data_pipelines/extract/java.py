"""Java."""

import tree_sitter_java

from data_pipelines.extract.facts import Facts
from data_pipelines.extract.paths import dotted
from data_pipelines.extract.syntax import SyntaxExtractor

SPANS = """
[(block) (constructor_body) (class_body) (interface_body) (enum_body) (switch_block)] @inside
[(expression_statement) (return_statement) (throw_statement) (if_statement) (for_statement) (enhanced_for_statement)
 (while_statement) (do_statement) (switch_expression) (try_statement) (try_with_resources_statement)
 (local_variable_declaration) (field_declaration) (assert_statement)] @statement
[(method_invocation) (object_creation_expression) (explicit_constructor_invocation) (argument_list)] @call
[(line_comment) (block_comment) (import_declaration) (package_declaration)] @silent
(import_declaration (scoped_identifier) @import)
"""
FUNCTIONS = """
[(method_declaration name: (_) @name body: (_) @body)
 (constructor_declaration name: (_) @name body: (_) @body)] @function
"""


def module_paths(name: str, importer: str) -> list[str]:
    """a.b.C as a/b/C.java, and a/b.java for a static member, under each folder above the importer."""
    return dotted(name, importer=importer, suffixes=(".java", ".kt"))


FACTS = Facts(
    language="java",
    grammars=(tree_sitter_java.language,),
    spans=SPANS,
    functions=FUNCTIONS,
    comments=frozenset({"block_comment"}),
    doc_marks=(b"/**",),
    alone=((b"class X {\n", b"\n}\n"), (b"interface X {\n", b"\n}\n")),
    module_paths=module_paths,
)
EXTRACTOR = SyntaxExtractor(FACTS)
