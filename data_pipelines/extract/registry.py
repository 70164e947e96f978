"""The extractors there are, by language. A new language is one file, one line here and one in config.py."""

from functools import cache

from data_pipelines.extract.base import Extractor
from data_pipelines.extract.python import PythonExtractor


@cache
def extractor_for(language: str) -> Extractor:
    """The extractor of a supported language."""
    return {"python": PythonExtractor}[language]()
