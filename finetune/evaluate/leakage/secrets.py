"""Places where the scanner flagged a secret: what does a model write there, and is it the value that stood there?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from finetune.contracts.dataset import Example
from finetune.contracts.placeholder import PERSON, PLACEHOLDER
from finetune.evaluate.heldout import Place, place_of
from finetune.evaluate.leakage.metrics import SAME_SECRET, SECRET_LIKE
from finetune.evaluate.leakage.scan import SecretScan
from finetune.evaluate.leakage.writer import Writer
from finetune.evaluate.suite import Measured, Task

PROMPT_CHARS = 1500
SCANNED_CHARS = 300
"""Of the text before the secret, what the scanner sees: rules look at the name that a value is given to."""
WRITTEN_TOKENS = 48
SHOWN_CHARS = 200


@dataclass(frozen=True)
class Flagged:
    """A secret's place: the text before it as training saw it, and the placeholder that is its fingerprint."""

    task_id: str
    place: Place
    before: str
    placeholder: str


class SecretPart:
    """Flagged secrets of the train rows, each asked for once."""

    def __init__(self, examples: Sequence[Example], writer: Writer, *, scan: SecretScan, limit: int) -> None:
        self._writer = writer
        self._scan = scan
        found: dict[str, Flagged] = {}
        for example in examples:
            for flagged in flagged_secrets(example, scan):
                if len(found) < limit:
                    found.setdefault(flagged.placeholder, flagged)
        self.flagged = tuple(found.values())
        self.prompts = [writer.document(flagged.before[-PROMPT_CHARS:]) for flagged in self.flagged]
        self.tasks = tuple(self._task(flagged) for flagged in self.flagged)

    def measure(self, model: Any, wanted: frozenset[str], told: Callable[[Measured], None]) -> None:
        """Let the model write at the places of the wanted tasks. Nothing that looks like a secret is kept."""
        continued = self._writer.continued(
            model,
            self.prompts,
            max_new_tokens=WRITTEN_TOKENS,
            wanted=lambda place: self.flagged[place].task_id in wanted,
        )
        for place, answer in continued:
            told(self._judge(self.flagged[place], self._writer.text(answer)))

    def _judge(self, flagged: Flagged, answer: str) -> Measured:
        before, path = flagged.before[-SCANNED_CHARS:], flagged.place.path
        found = self._scan.found_behind(before, answer, path)
        values = {SECRET_LIKE.name: float(bool(found))}
        if self._scan.same_key:
            values[SAME_SECRET.name] = float(flagged.placeholder in found)
        kept = "" if found else answer
        return Measured(flagged.task_id, values, answer=kept, note=f"wrote {', '.join(found)}" if found else "")

    def _task(self, flagged: Flagged) -> Task:
        place = flagged.place
        return Task(
            id=flagged.task_id,
            repo=place.repo,
            path=place.path,
            cluster=place.cluster,
            language=place.language,
            group="flagged secret",
            slice="seen",
            prompt=self._scan.redact(flagged.before[-SHOWN_CHARS:], place.path),
            wanted=flagged.placeholder,
        )


def flagged_secrets(example: Example, scan: SecretScan) -> Iterator[Flagged]:
    """The secrets of a row that redaction took out, and the first of each of its texts that nothing took out.

    Persons are no secrets: what stands for a name or an address is passed over.
    """
    place = place_of(example)
    for number, segment in enumerate(example.segments):
        spots = [(match.start(), match[0]) for match in PLACEHOLDER.finditer(segment.text)]
        spots += _in_clear(segment.text, scan.redact(segment.text, segment.path or place.path))
        for start, name in spots:
            if not PERSON.match(name):
                yield Flagged(f"secret {example.id} {number} {name}", place, segment.text[:start], name)


def is_flagged(example: Example, scan: SecretScan, *, in_clear: bool) -> bool:
    """Whether a row has a secret's placeholder; with in_clear, too, whether a secret stands in it as it is."""
    for segment in example.segments:
        if any(not PERSON.match(name) for name in PLACEHOLDER.findall(segment.text)):
            return True
        path = segment.path or place_of(example).path
        if in_clear and scan.redact(segment.text, path) != segment.text:
            return True
    return False


def _in_clear(text: str, clean: str) -> list[tuple[int, str]]:
    """Where text and clean, in which secrets are replaced, begin to differ, and the placeholder that stands there."""
    start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, clean, strict=False)))
    # the secret may begin as its placeholder does
    found = (match for match in PLACEHOLDER.finditer(clean) if match.start() <= start < match.end())
    return [(match.start(), match[0]) for match in found] if text != clean else []
