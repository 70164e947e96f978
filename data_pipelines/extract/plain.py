"""Text in a language that has no extractor: nothing is known of its syntax, so only random cuts are made."""

from data_pipelines.document import Units


class PlainExtractor:
    """Takes every text."""

    language = ""

    def parses(self, text: bytes) -> bool:
        """Always: there is no grammar to say otherwise."""
        return True

    def stands_alone(self, code: bytes) -> bool:
        """Never: no function is known to be whole."""
        return False

    def units(self, text: bytes) -> Units:
        """No spans at all."""
        return Units(parses=True)

    def module_paths(self, name: str, importer: str) -> list[str]:
        """None."""
        return []


EXTRACTOR = PlainExtractor()
