"""C++, with the spans of C and its own."""

import tree_sitter_cpp

from data_pipelines.extract.c import FUNCTIONS, LINE_SKIP, MAX_ERROR_SHARE, SPANS, module_paths
from data_pipelines.extract.facts import Facts
from data_pipelines.extract.syntax import SyntaxExtractor

MORE_SPANS = """
[(for_range_loop) (try_statement) (throw_statement)] @statement
[(new_expression)] @call
[(using_declaration)] @silent
"""

EXTRACTOR = SyntaxExtractor(
    Facts(
        language="cpp",
        grammars=(tree_sitter_cpp.language,),
        spans=SPANS + MORE_SPANS,
        functions=FUNCTIONS,
        line_skip=(*LINE_SKIP, b"public:", b"private:", b"protected:"),
        max_error_share=MAX_ERROR_SHARE,
        around=frozenset({"template_declaration"}),
        alone=((b"", b""), (b"class X {\n", b"\n};\n")),
        module_paths=module_paths,
    )
)
