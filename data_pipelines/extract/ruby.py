"""Ruby: a statement is any child of a body, and a head ends with the parameters, for there are no braces."""

import tree_sitter_ruby

from data_pipelines.extract.facts import Facts
from data_pipelines.extract.paths import folders_above, relative, under
from data_pipelines.extract.syntax import SyntaxExtractor

SPANS = """
[(body_statement) (then) (do) (block_body)] @inside
[(body_statement (_) @statement) (then (_) @statement) (do (_) @statement) (block_body (_) @statement)
 (program (_) @statement)]
[(call) (argument_list)] @call
(comment) @silent
((call method: (identifier) @_method arguments: (argument_list . (string) @import)) @silent
 (#any-of? @_method "require" "require_relative" "load"))
"""
FUNCTIONS = """
[(method name: (_) @name body: (body_statement) @body)
 (singleton_method name: (_) @name body: (body_statement) @body)] @function
"""


def module_paths(name: str, importer: str) -> list[str]:
    """a/b as a/b.rb beside the importer (require_relative), then under lib/ or the folders above it (require)."""
    file = name if name.endswith(".rb") else f"{name}.rb"
    beside = relative(file, importer)
    folders = [path for folder in folders_above(importer) for path in under([folder], ["lib", ""])]
    return list(dict.fromkeys([*([beside] if beside else []), *under(folders, [file])]))


EXTRACTOR = SyntaxExtractor(
    Facts(
        language="ruby",
        grammars=(tree_sitter_ruby.language,),
        spans=SPANS,
        functions=FUNCTIONS,
        line_skip=(b"end", b"}", b")", b"]", b"{"),
        openers=frozenset(),
        closers=frozenset(),
        module_paths=module_paths,
    )
)
