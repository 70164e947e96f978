"""Rust."""

import tree_sitter_rust

from data_pipelines.extract.facts import Facts
from data_pipelines.extract.paths import folders_above, under
from data_pipelines.extract.syntax import SyntaxExtractor

SPANS = """
[(block) (declaration_list) (field_declaration_list) (enum_variant_list) (match_block)] @inside
[(let_declaration) (expression_statement) (const_item) (static_item) (match_arm)] @statement
(block [(call_expression) (macro_invocation) (match_expression) (if_expression)] @statement .)
[(call_expression) (macro_invocation) (arguments)] @call
[(line_comment) (block_comment) (use_declaration) (extern_crate_declaration)] @silent
(use_declaration argument: (_) @import)
(mod_item name: (_) @import !body) @silent
"""
FUNCTIONS = "(function_item name: (_) @name body: (_) @body) @function"


def module_paths(name: str, importer: str) -> list[str]:
    """crate::a::b from the nearest src/, super::a and self::a from the importer, a module's bare name beside it."""
    parts = [part for part in "".join(name.split()).split("{")[0].split(" as ")[0].split("::") if part and part != "*"]
    folders = folders_above(importer)
    own = importer.removesuffix(".rs")
    is_root = own.rsplit("/", 1)[-1] in ("mod", "lib", "main")
    inside = folders[0] if is_root else own
    roots = {
        "crate": [folder for folder in folders if folder.rsplit("/", 1)[-1] == "src"][:1],
        "self": [inside],
        "super": folders[1:2] if is_root else folders[:1],
    }
    first, *rest = parts or [""]
    starts = roots.get(first, [inside, folders[0]])
    steps = rest if first in roots else parts[:1]
    stems = ["/".join(steps[: len(steps) - cut]) for cut in range(3) if len(steps) > cut]
    return under(starts, [stem + end for stem in stems for end in (".rs", "/mod.rs")])


EXTRACTOR = SyntaxExtractor(
    Facts(
        language="rust",
        grammars=(tree_sitter_rust.language,),
        spans=SPANS,
        functions=FUNCTIONS,
        line_skip=(b"}", b")", b"]", b"{", b"#[", b"#!["),
        comments=frozenset({"line_comment", "block_comment"}),
        doc_marks=(b"///", b"/**"),
        between=frozenset({"attribute_item"}),
        module_paths=module_paths,
    )
)
