"""The heldout suite: bits per byte of both models on rows that training never saw."""

import json
import math
from collections.abc import Callable, Sequence

from finetune.contracts.dataset import ReasonCount
from finetune.contracts.evaluation import Answer, Finding, PairedRow, SuiteName
from finetune.contracts.io import digest_text
from finetune.evaluate.heldout import HeldoutRow, choose_examples, heldout_rows
from finetune.evaluate.metric import Metric
from finetune.evaluate.suite import Measured, Subject, Task, batches
from finetune.model.scoring import row_losses
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import OpenDataset
from finetune.render.rows import Renderer

# what a figure means; a change of it makes results of before no results of the same thing
DEFINITION = 1
BITS_PER_BYTE = Metric(
    suite=SuiteName.HELDOUT,
    name="bits per byte",
    unit="",
    direction="lower is better",
    kind="ratio",
    primary=True,
    by=("slice", "group", "language", "repo"),
)


class HeldoutSuite:
    """Rows whose learned text is scored. A task is a row: of a long document each of its rows."""

    name = SuiteName.HELDOUT
    metrics = (BITS_PER_BYTE,)

    def __init__(
        self,
        rows: Sequence[HeldoutRow],
        *,
        pad_token: int,
        batch_rows: int,
        left_out: tuple[ReasonCount, ...] = (),
    ) -> None:
        self._rows = {row.task_id: row for row in rows}
        self._pad_token = pad_token
        self._batch_rows = batch_rows
        self._left_out = left_out
        self.tasks = tuple(_task(row) for row in rows)
        labels = [[row.task_id, list(row.input_ids), list(row.labels)] for row in rows]
        self.digest = digest_text(json.dumps([DEFINITION, batch_rows, pad_token, labels]))

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the learned text of all rows."""
        return sum(row.num_bytes for row in self._rows.values())

    def left_out(self) -> tuple[ReasonCount, ...]:
        return self._left_out

    def findings(self, rows: Sequence[PairedRow], answers: Sequence[Answer]) -> tuple[Finding, ...]:
        return ()

    def measure(self, subject: Subject, task_ids: Sequence[str], *, told: Callable[[Measured], None]) -> None:
        wanted = frozenset(task_ids)
        rows = list(self._rows.values())
        for places in batches([len(row.input_ids) for row in rows], self._batch_rows):
            chosen = [rows[place] for place in places]
            if wanted.isdisjoint(row.task_id for row in chosen):
                continue
            pairs = [(row.input_ids, row.labels) for row in chosen]
            losses = row_losses(subject.model, pairs, pad_token=self._pad_token, batch_rows=self._batch_rows)
            for row, loss in zip(chosen, losses, strict=True):
                if row.task_id in wanted:
                    bits = loss / math.log(2)
                    told(Measured(row.task_id, {BITS_PER_BYTE.name: bits}, size=row.num_bytes))


def heldout_suite(
    dataset: OpenDataset, renderer: Renderer, section: EvaluateSection, *, pad_token: int
) -> HeldoutSuite | None:
    """The rows that section asks for; None when nothing that is held out fits."""
    examples = choose_examples(dataset, None, seed=section.seed)
    rows = heldout_rows(examples, renderer, max_rows=section.max_rows)
    if not rows:
        return None
    return HeldoutSuite(rows, pad_token=pad_token, batch_rows=section.batch_rows, left_out=renderer.reasons())


def _task(row: HeldoutRow) -> Task:
    return Task(
        id=row.task_id,
        repo=row.place.repo,
        path=row.place.path,
        cluster=row.place.cluster,
        language=row.place.language,
        group=row.task.value.replace("_", " "),
        slice=row.place.slice,
    )
