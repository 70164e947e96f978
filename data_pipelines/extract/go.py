"""Go."""

import tree_sitter_go

from data_pipelines.extract.facts import Facts
from data_pipelines.extract.paths import under
from data_pipelines.extract.syntax import SyntaxExtractor

SPANS = """
[(block) (field_declaration_list) (literal_value)] @inside
[(expression_statement) (return_statement) (if_statement) (for_statement) (expression_switch_statement)
 (type_switch_statement) (select_statement) (go_statement) (defer_statement) (short_var_declaration) (var_declaration)
 (const_declaration) (assignment_statement) (send_statement)] @statement
[(call_expression) (argument_list)] @call
[(comment) (import_declaration) (package_clause)] @silent
(import_spec path: (_) @import)
"""
FUNCTIONS = """
[(function_declaration name: (_) @name body: (_) @body)
 (method_declaration name: (_) @name body: (_) @body)] @function
"""


def module_paths(name: str, importer: str) -> list[str]:
    """A package is a folder; of its files only the one of its own name can be told: x/y/z as z/z.go, y/z/z.go, ..."""
    parts = name.split("/")
    folders = ["/".join(parts[place:]) for place in range(len(parts) - 1, -1, -1)]
    # the longest path that exists is the surest; a package of the standard library matches by accident only
    return under([""], [f"{folder}/{parts[-1]}.go" for folder in reversed(folders) if len(parts) > 1])


FACTS = Facts(
    language="go",
    grammars=(tree_sitter_go.language,),
    spans=SPANS,
    functions=FUNCTIONS,
    alone=((b"package x\n", b""),),
    module_paths=module_paths,
)
EXTRACTOR = SyntaxExtractor(FACTS)
