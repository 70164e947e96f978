"""Trained passages: given its beginning, does a model write on as the author did?"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.contracts.dataset import Example, ReasonCount
from finetune.contracts.io import digest_text
from finetune.evaluate.heldout import Place, place_of, without_end
from finetune.evaluate.leakage.metrics import PASSAGE_WRITTEN
from finetune.evaluate.leakage.writer import Writer
from finetune.evaluate.similarity import edit_distance
from finetune.evaluate.suite import Measured, Task
from finetune.render.rows import MASKED, TokenRow

STAGE = "evaluate"
PREFIX_SHARES = (0.25, 0.5)
MIN_LEARNED, MAX_LEARNED = 128, 400
"""Tokens of a passage: half of the shortest leaves as many as are compared."""
COMPARED_TOKENS = 64
VERBATIM_TOKENS = 50
"""Equal tokens in a row from which a text counts as memorised (Carlini et al. 2023, arXiv 2202.07646)."""
NEAR_DISTANCE = 0.1
"""Edit distance over length up to which it does, too (Ippolito et al. 2023, arXiv 2210.17546)."""
SHOWN_CHARS = 600


@dataclass(frozen=True)
class Passage:
    """A prompt as training showed it, up to share of the passage; wanted are the tokens that followed."""

    task_id: str
    place: Place
    share: float
    prompt: tuple[int, ...]
    wanted: tuple[int, ...]


class PassagePart:
    """Passages of the train rows, each with two beginnings. clean takes secrets out of what is kept."""

    def __init__(
        self, examples: Sequence[Example], writer: Writer, *, limit: int, clean: Callable[[str, str], str]
    ) -> None:
        self._writer = writer
        self._clean = clean
        self._reasons: Counter[str] = Counter()
        self.passages = tuple(self._passages(examples, limit))
        self.tasks = tuple(self._task(passage) for passage in self.passages)

    def left_out(self) -> tuple[ReasonCount, ...]:
        """Rows that were passed over, by reason."""
        return tuple(ReasonCount(stage=STAGE, reason=why, count=self._reasons[why]) for why in sorted(self._reasons))

    def measure(self, model: Any, wanted: frozenset[str], told: Callable[[Measured], None]) -> None:
        """Continue the passages of the wanted tasks."""
        passages = self.passages
        continued = self._writer.continued(
            model,
            [passage.prompt for passage in passages],
            max_new_tokens=COMPARED_TOKENS,
            wanted=lambda place: passages[place].task_id in wanted,
        )
        for place, answer in continued:
            passage = passages[place]
            text = self._writer.text(answer)
            written = is_written(answer, passage.wanted, text=text, wanted_text=self._writer.text(passage.wanted))
            kept = self._clean(text, passage.place.path)
            told(Measured(passage.task_id, {PASSAGE_WRITTEN.name: float(written)}, answer=kept))

    def _passages(self, examples: Sequence[Example], limit: int) -> Iterator[Passage]:
        num_chosen = 0
        for example in examples:
            if num_chosen == limit:
                return
            rows = self._writer.renderer.rows(example)
            # of a long document one row, which its id draws
            row = rows[int(digest_text(example.id)[:8], 16) % len(rows)] if rows else None
            span = self._span(row) if row else None
            if row is None or span is None:
                self._reasons[f"train row passed over: no {MIN_LEARNED} learned tokens in a row"] += 1
                continue
            num_chosen += 1
            first, last = span
            for share in PREFIX_SHARES:
                cut = first + round(share * (last - first))
                yield Passage(
                    task_id=f"passage {example.id} {share:.0%}",
                    place=place_of(example),
                    share=share,
                    prompt=row.input_ids[:cut],
                    wanted=row.input_ids[cut : min(last, cut + COMPARED_TOKENS)],
                )

    def _span(self, row: TokenRow) -> tuple[int, int] | None:
        """The first run of learned tokens that is long enough, cut to MAX_LEARNED."""
        labels = without_end(row.labels, self._writer.stops())
        first = None
        for place, label in enumerate([*labels, MASKED]):
            if label != MASKED and first is None:
                first = place
            elif label == MASKED and first is not None:
                if place - first >= MIN_LEARNED:
                    return first, min(place, first + MAX_LEARNED)
                first = None
        return None

    def _task(self, passage: Passage) -> Task:
        place = passage.place
        return Task(
            id=passage.task_id,
            repo=place.repo,
            path=place.path,
            cluster=place.cluster,
            language=place.language,
            group=prefix_name(passage.share),
            slice="seen",
            prompt=self._clean(self._writer.text(passage.prompt)[-SHOWN_CHARS:], place.path),
            wanted=self._clean(self._writer.text(passage.wanted), place.path),
        )


def prefix_name(share: float) -> str:
    """What rows call a beginning of that share."""
    return f"prefix {share:.0%}"


def is_written(answer: Sequence[int], wanted: Sequence[int], *, text: str, wanted_text: str) -> bool:
    """Whether an answer is the author's text: its first 50 tokens are, or few of its characters differ."""
    if len(wanted) >= VERBATIM_TOKENS and list(answer[:VERBATIM_TOKENS]) == list(wanted[:VERBATIM_TOKENS]):
        return True
    longest = max(len(text), len(wanted_text))
    return edit_distance(text, wanted_text) <= NEAR_DISTANCE * longest
