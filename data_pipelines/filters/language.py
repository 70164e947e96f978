"""A file's language by its name, and by its text where the name leaves it open: facts, not guesses."""

import re
from typing import Literal

from data_pipelines.extract.registry import LANGUAGES

OtherLanguages = Literal["none", "known", "any"]

SUFFIXES = {
    "python": "py pyi pyw",
    "javascript": "js mjs cjs jsx",
    "typescript": "ts mts cts tsx",
    "java": "java",
    "kotlin": "kt kts",
    "go": "go",
    "rust": "rs",
    "c": "c h",
    "cpp": "cc cpp cxx hh hpp hxx ipp tpp",
    "csharp": "cs csx",
    "ruby": "rb rake gemspec",
    "php": "php",
    "bash": "sh bash bats",
    "sql": "sql",
    # code without an extractor
    "ada": "adb ads",
    "assembly": "asm s",
    "clojure": "clj cljs cljc",
    "cmake": "cmake",
    "cuda": "cu cuh",
    "dart": "dart",
    "elixir": "ex exs",
    "elm": "elm",
    "erlang": "erl hrl",
    "fish": "fish",
    "fortran": "f90 f95 f03 f08",
    "fsharp": "fs fsi fsx",
    "glsl": "glsl vert frag comp",
    "graphql": "graphql gql",
    "groovy": "groovy gradle",
    "haskell": "hs",
    "hcl": "tf hcl",
    "julia": "jl",
    "lisp": "lisp cl el",
    "lua": "lua",
    "nim": "nim",
    "nix": "nix",
    "objective-c": "mm",
    "ocaml": "ml mli",
    "pascal": "pas dpr",
    "perl": "pl pm",
    "powershell": "ps1 psm1",
    "protobuf": "proto",
    "r": "r",
    "scala": "scala sc",
    "scheme": "scm ss rkt",
    "solidity": "sol",
    "starlark": "bzl star",
    "svelte": "svelte",
    "swift": "swift",
    "tcl": "tcl",
    "thrift": "thrift",
    "verilog": "sv svh",
    "vhdl": "vhd vhdl",
    "vim": "vim",
    "visual-basic": "vb",
    "vue": "vue",
    "zig": "zig",
    "zsh": "zsh",
    # documents and data
    "html": "html htm xhtml",
    "css": "css scss sass less",
    "markdown": "md markdown mdx",
    "restructuredtext": "rst",
    "json": "json jsonl json5 geojson",
    "yaml": "yaml yml",
    "toml": "toml",
    "xml": "xml svg xsd xsl xslt plist resx csproj",
    "text": "txt text",
    "notebook": "ipynb",
}
BY_SUFFIX = {f".{suffix}": language for language, suffixes in SUFFIXES.items() for suffix in suffixes.split()}
BY_NAME = {
    "SConstruct": "python",
    "wscript": "python",
    "Rakefile": "ruby",
    "Gemfile": "ruby",
    "Makefile": "make",
    "CMakeLists.txt": "cmake",
    "Dockerfile": "dockerfile",
    "Jenkinsfile": "groovy",
}
DATA = frozenset({"html", "css", "markdown", "restructuredtext", "json", "yaml", "toml", "xml", "text", "notebook"})
# not code under any setting: data, documents, settings, what tools write
DATA_SUFFIXES = frozenset(
    [
        ".adoc",
        ".asc",
        ".bak",
        ".cfg",
        ".conf",
        ".crt",
        ".csv",
        ".diff",
        ".edn",
        ".env",
        ".expected",
        ".golden",
        ".ics",
        ".in",
        ".ini",
        ".key",
        ".lock",
        ".log",
        ".map",
        ".mod",
        ".org",
        ".out",
        ".patch",
        ".pem",
        ".po",
        ".pot",
        ".properties",
        ".pub",
        ".rtf",
        ".snap",
        ".sum",
        ".tex",
        ".tsv",
    ]
)
# a line of C++ that no C header has outside of "#ifdef __cplusplus"
CPP_LINE = re.compile(
    r"^[ \t]*(?:(?:class|namespace)\s+[\w:]+[^;\n]*$|namespace\s*\{|template\s*<|using\s+[\w:]+"
    r"|(?:public|private|protected):|#\s*include\s*<[a-z_]+>|(?:constexpr|explicit|virtual)\s)|\bstd::",
    re.MULTILINE,
)
CPP_ONLY = re.compile(
    r"^[ \t]*#\s*if(?:def)?\b[^\n]*\b__cplusplus\b.*?(?:^[ \t]*#\s*(?:else|endif)|\Z)", re.MULTILINE | re.DOTALL
)
# what is opened and never closed runs to the end: a text full of openings is read once and not once for each
COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|//[^\n]*", re.DOTALL)


def language_of(path: str, text: str | None = None) -> str | None:
    """The language of a path such as "shop/cart.py", None when its name tells none; a text settles C or C++ in .h."""
    suffix = suffix_of(path)
    if suffix == ".h" and text is not None:
        return header_language(text)
    return BY_NAME.get(path.rpartition("/")[2]) or BY_SUFFIX.get(suffix.lower())


def suffix_of(path: str) -> str:
    """The last suffix of a path with its dot; "" for "Makefile" and ".profile"."""
    stem, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return dot + suffix if stem and suffix else ""


def header_language(text: str) -> str:
    """ "cpp" for a header with a line that only C++ has, else "c"."""
    return "cpp" if CPP_LINE.search(CPP_ONLY.sub("", COMMENT.sub("", text))) else "c"


def is_wanted(path: str, languages: tuple[str, ...], *, text: str | None = None) -> bool:
    """Whether a path's language is among languages; without its text, whether it may be."""
    if text is None and suffix_of(path) == ".h":
        return "c" in languages or "cpp" in languages
    return language_of(path, text) in languages


def other_language(path: str, wanted: OtherLanguages) -> str | None:
    """The name of a language without an extractor, for "any" its suffix if need be; None when it is not wanted."""
    language, suffix = language_of(path), suffix_of(path).lower()
    if wanted == "none" or language in LANGUAGES or language in DATA:
        return None
    if language is None and wanted == "any" and suffix[1:].isalnum() and suffix not in DATA_SUFFIXES:
        return suffix[1:]
    return language
