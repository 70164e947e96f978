"""TypeScript; a file with syntax errors is tried as TSX, because a cast such as <T>x exists in the first alone."""

import tree_sitter_typescript

from data_pipelines.extract.facts import Facts
from data_pipelines.extract.javascript import ALONE, AROUND, FUNCTIONS, LINE_SKIP, SPANS, module_paths
from data_pipelines.extract.syntax import SyntaxExtractor

TYPES = """
[(interface_body) (object_type) (enum_body)] @inside
(type_alias_declaration) @statement
(import_require_clause source: (string) @import)
"""

EXTRACTOR = SyntaxExtractor(
    Facts(
        language="typescript",
        grammars=(tree_sitter_typescript.language_typescript, tree_sitter_typescript.language_tsx),
        spans=SPANS + TYPES,
        functions=FUNCTIONS,
        line_skip=LINE_SKIP,
        doc_marks=(b"/**",),
        around=AROUND,
        between=frozenset({"decorator"}),
        alone=ALONE,
        module_paths=module_paths,
    )
)
