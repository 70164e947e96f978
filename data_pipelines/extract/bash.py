"""Bash, and what of sh its grammar takes."""

import tree_sitter_bash

from data_pipelines.extract.facts import Facts
from data_pipelines.extract.paths import relative
from data_pipelines.extract.syntax import SyntaxExtractor

SPANS = """
[(compound_statement) (case_statement)] @inside
(do_group) @inside
[(command) (pipeline) (list) (redirected_statement) (if_statement) (for_statement) (while_statement) (case_statement)
 (variable_assignment) (declaration_command)] @statement
[(command) (command_substitution)] @call
(comment) @silent
((command name: (command_name) @_command . argument: (_) @import) @silent (#any-of? @_command "source" "."))
"""
FUNCTIONS = "(function_definition name: (_) @name body: (compound_statement) @body) @function"


def module_paths(name: str, importer: str) -> list[str]:
    """ "$DIR/a.sh" or ./a.sh as a.sh beside the importer, then from the top."""
    path = name.rpartition("}/")[2] if "}/" in name else name
    parts = [part for part in path.split("/") if not part.startswith("$")]
    target = "/".join(parts).strip("\"'")
    beside = relative(target, importer)
    return list(dict.fromkeys(found for found in (beside, relative(target, "")) if found and "$" not in found))


EXTRACTOR = SyntaxExtractor(
    Facts(
        language="bash",
        grammars=(tree_sitter_bash.language,),
        spans=SPANS,
        functions=FUNCTIONS,
        line_skip=(b"}", b")", b"]", b"{", b"fi", b"done", b"esac", b"then", b"else", b"do", b";;"),
        module_paths=module_paths,
    )
)
