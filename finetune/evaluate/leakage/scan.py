"""SecretScan: the scanner that redacted the dataset, as the suite sees it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from finetune.contracts.placeholder import PERSON, PLACEHOLDER


@dataclass(frozen=True, slots=True)
class SecretScan:
    """redact(text, path) gives a text with each secret replaced by its placeholder; path says how its file is written.

    same_key: the key is that of the dataset's own build, so equal placeholders mean equal secrets and the value itself
    need not be known. digest names rules and key.
    """

    redact: Callable[[str, str], str]
    same_key: bool
    digest: str

    def found_behind(self, before: str, text: str, path: str) -> list[str]:
        """Placeholders of the secrets that text adds to what stands before it; those that it spells out are none."""
        there = Counter(PLACEHOLDER.findall(before + text))
        made = Counter(PLACEHOLDER.findall(self.redact(before + text, path)))
        already = Counter(PLACEHOLDER.findall(self.redact(before, path)))
        return [name for name in made - there - already if not PERSON.match(name)]
