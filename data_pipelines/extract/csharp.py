"""C#. A namespace names no file, so its imports lead nowhere."""

import tree_sitter_c_sharp

from data_pipelines.extract.facts import Facts
from data_pipelines.extract.syntax import SyntaxExtractor

SPANS = """
[(block) (declaration_list) (enum_member_declaration_list) (switch_body)] @inside
[(expression_statement) (return_statement) (throw_statement) (if_statement) (for_statement) (foreach_statement)
 (while_statement) (do_statement) (switch_statement) (try_statement) (using_statement) (lock_statement)
 (yield_statement) (local_declaration_statement) (field_declaration)] @statement
[(invocation_expression) (object_creation_expression) (argument_list)] @call
[(comment) (using_directive)] @silent
(using_directive [(qualified_name) (identifier)] @import)
"""
FUNCTIONS = """
[(method_declaration name: (_) @name body: (block) @body)
 (constructor_declaration name: (_) @name body: (block) @body)
 (local_function_statement name: (_) @name body: (block) @body)] @function
"""

EXTRACTOR = SyntaxExtractor(
    Facts(
        language="csharp",
        grammars=(tree_sitter_c_sharp.language,),
        spans=SPANS,
        functions=FUNCTIONS,
        line_skip=(b"}", b")", b"]", b"{", b"[", b"#region", b"#endregion", b"#if", b"#else", b"#endif", b"#pragma"),
        doc_marks=(b"///", b"/**"),
        alone=((b"class X {\n", b"\n}\n"), (b"", b"")),
    )
)
