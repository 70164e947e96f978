"""PHP."""

import tree_sitter_php

from data_pipelines.extract.facts import Facts
from data_pipelines.extract.paths import relative, under
from data_pipelines.extract.syntax import SyntaxExtractor

SPANS = """
[(compound_statement) (declaration_list) (switch_block) (match_block)] @inside
[(expression_statement) (return_statement) (if_statement) (for_statement) (foreach_statement) (while_statement)
 (do_statement) (switch_statement) (try_statement) (echo_statement) (property_declaration)] @statement
[(function_call_expression) (member_call_expression) (nullsafe_member_call_expression) (scoped_call_expression)
 (object_creation_expression) (arguments)] @call
[(comment) (namespace_use_declaration) (namespace_definition)] @silent
(namespace_use_clause [(qualified_name) (name)] @import)
(expression_statement
 [(include_expression) (include_once_expression) (require_expression) (require_once_expression)]) @silent
[(include_expression (string) @import) (include_once_expression (string) @import) (require_expression (string) @import)
 (require_once_expression (string) @import)
 (include_expression (binary_expression right: (string) @import))
 (include_once_expression (binary_expression right: (string) @import))
 (require_expression (binary_expression right: (string) @import))
 (require_once_expression (binary_expression right: (string) @import))]
"""
FUNCTIONS = """
[(method_declaration name: (_) @name body: (_) @body)
 (function_definition name: (_) @name body: (_) @body)] @function
"""
ROOTS = ("src", "lib", "app", "")
# a root stands for up to so many leading names: Vendor\\Package\\Name lies in src/Name.php
MAX_ROOT_NAMES = 2


def module_paths(name: str, importer: str) -> list[str]:
    """A\\B\\C as C.php in folders of its last names under the usual roots; a file's name beside the importer."""
    if name.endswith((".php", ".inc")):
        beside = relative(name.lstrip("/"), importer)
        return list(dict.fromkeys(path for path in (beside, name.lstrip("/")) if path))
    parts = name.strip("\\").split("\\")
    names = ["/".join(parts[cut:]) + ".php" for cut in range(min(MAX_ROOT_NAMES + 1, len(parts)))]
    return under(ROOTS, names) if len(parts) > 1 else []


EXTRACTOR = SyntaxExtractor(
    Facts(
        language="php",
        grammars=(tree_sitter_php.language_php,),
        spans=SPANS,
        functions=FUNCTIONS,
        line_skip=(b"}", b")", b"]", b"{", b"#[", b"<?php", b"?>", b"namespace "),
        doc_marks=(b"/**",),
        alone=((b"<?php\n", b""), (b"<?php\nclass X {\n", b"\n}\n")),
        module_paths=module_paths,
    )
)
