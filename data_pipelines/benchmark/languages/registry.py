"""Every language of which functions are mined by whole runs of the tests."""

from collections.abc import Mapping

from data_pipelines.benchmark.languages import go, java, javascript
from data_pipelines.benchmark.languages.base import MinedLanguage

_ALL = (javascript.LANGUAGE, go.LANGUAGE, java.LANGUAGE)
LANGUAGES: Mapping[str, MinedLanguage] = {language.name: language for language in _ALL}
