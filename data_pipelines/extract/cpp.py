"""C++, with the spans of C and its own."""

from dataclasses import replace

import tree_sitter_cpp

from data_pipelines.extract.c import FACTS
from data_pipelines.extract.syntax import SyntaxExtractor

MORE_SPANS = """
[(for_range_loop) (try_statement) (throw_statement)] @statement
[(new_expression)] @call
[(using_declaration)] @silent
"""

EXTRACTOR = SyntaxExtractor(
    replace(
        FACTS,
        language="cpp",
        grammars=(tree_sitter_cpp.language,),
        spans=FACTS.spans + MORE_SPANS,
        line_skip=(*FACTS.line_skip, b"public:", b"private:", b"protected:"),
        around=frozenset({"template_declaration"}),
        alone=((b"", b""), (b"class X {\n", b"\n};\n")),
    )
)
