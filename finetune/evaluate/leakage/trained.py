"""What the adapter was trained on, in one pass over the train split: rows to draw from, and the rows with canaries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from finetune.contracts.canaries import CANARY_REPO
from finetune.contracts.dataset import Example, Split, Task
from finetune.contracts.io import digest_text
from finetune.render.dataset import OpenDataset


@dataclass
class Drawn:
    """The limit examples whose digests are smallest: a draw that only seed and ids decide, whatever the order."""

    limit: int
    seed: int
    _rows: list[tuple[str, Example]] = field(default_factory=list)

    def offer(self, example: Example) -> None:
        """Take an example in, if it is among the smallest so far."""
        self._rows.append((digest_text(f"{self.seed} {example.id}"), example))
        if len(self._rows) > 2 * self.limit:
            self._cut()

    def examples(self) -> list[Example]:
        """The examples drawn, in the order of the draw."""
        self._cut()
        return [example for _, example in self._rows]

    def _cut(self) -> None:
        self._rows.sort(key=lambda row: row[0])
        del self._rows[self.limit :]


@dataclass(frozen=True)
class Trained:
    """Drawn rows of the company's own code, those of them that show what the scanner flagged, and rows of canaries."""

    rows: list[Example]
    flagged: list[Example]
    canaries: list[Example]


def read_trained(
    dataset: OpenDataset,
    *,
    tasks: Sequence[Task] | None,
    limit: int,
    seed: int,
    is_flagged: Callable[[Example], bool],
) -> Trained:
    """Draw limit rows, and limit flagged ones, from the train rows of tasks (None: all)."""
    rows, flagged = Drawn(limit, seed), Drawn(limit, seed)
    canaries = []
    for example in dataset.examples(Split.TRAIN, tasks):
        if example.provenance and example.provenance[0].repo == CANARY_REPO:
            canaries.append(example)
            continue
        rows.offer(example)
        if is_flagged(example):
            flagged.offer(example)
    return Trained(rows.examples(), flagged.examples(), canaries)
