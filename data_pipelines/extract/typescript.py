"""TypeScript; a file with syntax errors is tried as TSX, because a cast such as <T>x exists in the first alone."""

from dataclasses import replace

import tree_sitter_typescript

from data_pipelines.extract.javascript import FACTS
from data_pipelines.extract.syntax import SyntaxExtractor

TYPES = """
[(interface_body) (object_type) (enum_body)] @inside
(type_alias_declaration) @statement
(import_require_clause source: (string) @import)
"""

EXTRACTOR = SyntaxExtractor(
    replace(
        FACTS,
        language="typescript",
        grammars=(tree_sitter_typescript.language_typescript, tree_sitter_typescript.language_tsx),
        spans=FACTS.spans + TYPES,
    )
)
