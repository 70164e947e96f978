"""The languages with an extractor. A new one is a file with its EXTRACTOR, and its name here; nothing else lists them.

Nothing is imported before it is needed, so that the configuration can read the list without a parser.
"""

from functools import cache
from importlib import import_module

from data_pipelines.extract.base import Extractor

LANGUAGES = (
    "python",
    "javascript",
    "typescript",
    "java",
    "kotlin",
    "go",
    "rust",
    "c",
    "cpp",
    "csharp",
    "ruby",
    "php",
    "bash",
    "sql",
)


@cache
def extractor_for(language: str) -> Extractor:
    """The extractor of a language; one that knows no syntax for a language that is not in the list."""
    name = language if language in LANGUAGES else "plain"
    extractor: Extractor = import_module(f"data_pipelines.extract.{name}").EXTRACTOR
    return extractor
