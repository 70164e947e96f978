"""JavaScript with JSX."""

import tree_sitter_javascript

from data_pipelines.extract.facts import Facts
from data_pipelines.extract.paths import relative
from data_pipelines.extract.syntax import SyntaxExtractor

SPANS = """
[(statement_block) (class_body) (switch_body)] @inside
[(expression_statement) (return_statement) (throw_statement) (if_statement) (for_statement) (for_in_statement)
 (while_statement) (do_statement) (switch_statement) (try_statement) (lexical_declaration) (variable_declaration)]
 @statement
[(call_expression) (new_expression) (arguments)] @call
[(comment) (import_statement)] @silent
(import_statement source: (string) @import)
(export_statement source: (string) @import) @silent
((call_expression function: (identifier) @_callee arguments: (arguments . (string) @import .))
 (#eq? @_callee "require"))
((_ (variable_declarator value: (call_expression function: (identifier) @_callee))) @silent (#eq? @_callee "require"))
"""
FUNCTIONS = """
[(function_declaration name: (_) @name body: (_) @body)
 (generator_function_declaration name: (_) @name body: (_) @body)
 (method_definition name: (_) @name body: (_) @body)
 (variable_declarator name: (_) @name
  value: [(arrow_function body: (statement_block) @body) (function_expression body: (_) @body)])
 (assignment_expression left: (_) @name
  right: [(arrow_function body: (statement_block) @body) (function_expression body: (_) @body)])] @function
"""
SUFFIXES = (".js", ".ts", ".tsx", ".jsx", ".mjs", ".cjs", ".mts", ".d.ts")
# what a compiled name stands for in TypeScript's sources
COMPILED = {".js": (".ts", ".tsx"), ".jsx": (".tsx",), ".mjs": (".mts",)}


def module_paths(name: str, importer: str) -> list[str]:
    """ "./a" as a, a.js, a.ts, a/index.js and so on beside the importer; a package's name is no file of ours."""
    path = relative(name, importer) if name.startswith(".") else None
    if path is None:
        return []
    compiled = [path[: -len(end)] + suffix for end, ends in COMPILED.items() if path.endswith(end) for suffix in ends]
    return [path, *compiled, *(path + suffix for suffix in SUFFIXES), *(f"{path}/index{end}" for end in SUFFIXES)]


FACTS = Facts(
    language="javascript",
    grammars=(tree_sitter_javascript.language,),
    spans=SPANS,
    functions=FUNCTIONS,
    line_skip=(b"}", b")", b"]", b"{", b"@", b"'use strict'", b'"use strict"'),
    doc_marks=(b"/**",),
    around=frozenset({"lexical_declaration", "variable_declaration", "expression_statement", "export_statement"}),
    between=frozenset({"decorator"}),
    alone=((b"", b""), (b"class X {\n", b"\n}\n"), (b"class X extends Y {\n", b"\n}\n")),
    module_paths=module_paths,
)
EXTRACTOR = SyntaxExtractor(FACTS)
