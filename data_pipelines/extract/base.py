"""What a language must offer so that its files can be mined."""

from typing import Protocol

from data_pipelines.document import Units


class Extractor(Protocol):
    """One language. Text is UTF-8 bytes, because spans are byte offsets."""

    language: str

    def parses(self, text: bytes) -> bool:
        """Whether the text has no more syntax errors than the language forgives."""
        ...

    def stands_alone(self, code: bytes) -> bool:
        """Whether a function has no syntax error outside its file."""
        ...

    def units(self, text: bytes) -> Units:
        """Spans by stratum, documented functions, imports. Spans do not cut a character."""
        ...

    def module_paths(self, name: str, importer: str) -> list[str]:
        """Paths in the repository that the import `name` in the file `importer` may mean, best first."""
        ...
