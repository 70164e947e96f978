"""The rows of a run: the train split rendered in its order, and a small fixed sample of the held-out split."""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.contracts.dataset import Example, ReasonCount, Split, Task
from finetune.contracts.errors import DatasetError, UsageError
from finetune.contracts.io import digest_text
from finetune.families.base import Family
from finetune.recipe.resolve import ResolvedRecipe
from finetune.recipe.schema import DataSection, TaskWeights
from finetune.render.dataset import OpenDataset
from finetune.render.rows import Renderer, TokenRow
from finetune.terminal.progress import Progress
from finetune.train.order import RowOrder, plan_order

# Rows drawn for the held-out sample: as many as short rows need, and some for those that do not fit
HELDOUT_CANDIDATES = 512
SHORT_ROW_TOKENS = 32


@dataclass(frozen=True)
class PreparedRows:
    """Everything that is learned from and looked at."""

    train: tuple[TokenRow, ...]
    heldout: tuple[TokenRow, ...]
    reasons: tuple[ReasonCount, ...]

    def counts(self) -> dict[str, int]:
        """Rows to learn from, by task."""
        found = Counter(row.task.value for row in self.train)
        return {task.value: found[task.value] for task in Task if found[task.value]}


def dataset_folder(resolved: ResolvedRecipe) -> Path:
    """The absolute folder of the recipe's dataset. Raises UsageError when the recipe leaves it open."""
    if resolved.data.dataset is None:
        raise UsageError(
            f"The recipe {resolved.name} names no dataset.",
            "Add --set data.dataset=DIR with a folder made by `finetune data build`.",
        )
    return Path(resolved.data.dataset).expanduser().resolve()


def prepare_rows(dataset: OpenDataset, tokenizer: Any, family: Family, *, resolved: ResolvedRecipe) -> PreparedRows:
    """Render the dataset for a family. Raises DatasetError when no row is left to learn from."""
    weights = task_weights(resolved.data.tasks)
    renderer = Renderer(tokenizer, family, resolved.data.max_tokens)
    wanted = [task for task, weight in weights.items() if weight > 0]
    total = sum(dataset.manifest.num_examples(Split.TRAIN, task) for task in wanted)
    train: list[TokenRow] = []
    with Progress("Rendering", total) as progress:
        for example in dataset.examples(Split.TRAIN, wanted):
            train += renderer.rows(example)
            progress.advance()
    if not train:
        raise DatasetError(
            f"{dataset.folder} has no row to learn from in the tasks {', '.join(wanted)}.",
            "See `finetune data stats`; raise data.max_tokens, or give another task a weight in data.tasks.",
        )
    heldout = heldout_rows(dataset, tokenizer, family, data=resolved.data, num_tokens=resolved.train.evaluate_tokens)
    if not heldout and resolved.train.evaluate_every_steps is not None:
        raise DatasetError(
            f"train.evaluate_every_steps looks at held-out rows, and {dataset.folder} holds none that fit.",
            "Leave train.evaluate_every_steps and train.stop_after_worse out, or build a dataset that holds rows out.",
        )
    return PreparedRows(train=tuple(train), heldout=heldout, reasons=renderer.reasons())


def order_rows(rows: Sequence[TokenRow], resolved: ResolvedRecipe, *, packed: bool) -> RowOrder:
    """The order of rows that prepare_rows gave; packed: those of a forward pass share one sequence."""
    weights = task_weights(resolved.data.tasks)
    return plan_order(
        row_lengths(rows),
        [weights[row.task] for row in rows],
        resolved.train,
        pass_tokens=resolved.train.micro_batch * resolved.data.max_tokens if packed else None,
    )


def num_weighted_rows(rows: Sequence[TokenRow], tasks: TaskWeights) -> float:
    """Rows of one epoch, each as often as its task's weight says."""
    weights = task_weights(tasks)
    return sum(weights[row.task] for row in rows)


def reason_text(row: ReasonCount) -> str:
    """A line about what was cropped, split or dropped."""
    return f"  {row.count:,} x {row.reason}"


def row_lengths(rows: Sequence[TokenRow]) -> list[int]:
    """Tokens of each row."""
    return [len(row.input_ids) for row in rows]


def task_weights(section: TaskWeights) -> Mapping[Task, float]:
    """The weight of each task."""
    return {task: float(getattr(section, task.value)) for task in Task}


def heldout_rows(
    dataset: OpenDataset, tokenizer: Any, family: Family, *, data: DataSection, num_tokens: int
) -> tuple[TokenRow, ...]:
    """Held-out rows of the tasks that are learned, drawn by the digest of their id until they have num_tokens or more.

    Empty where the dataset holds nothing out. The verdict is left to `finetune evaluate`.
    """
    wanted = [task for task, weight in task_weights(data.tasks).items() if weight > 0]
    renderer = Renderer(tokenizer, family, data.max_tokens)
    rows: list[TokenRow] = []
    found = 0
    for example in _by_digest(
        dataset.examples(Split.HELDOUT, wanted), HELDOUT_CANDIDATES + num_tokens // SHORT_ROW_TOKENS
    ):
        if found >= num_tokens:
            break
        row = renderer.row(example)
        if row is not None:
            rows.append(row)
            found += len(row.input_ids)
    return tuple(rows)


def _by_digest(examples: Iterable[Example], limit: int) -> list[Example]:
    return heapq.nsmallest(limit, examples, key=lambda example: digest_text(example.id))


@dataclass(frozen=True)
class HeldoutLoss:
    """loss is the mean in nats per learned token, bits_per_byte the same against the bytes that those tokens spell."""

    loss: float
    bits_per_byte: float


def heldout_loss(rows: Sequence[TokenRow], losses: Sequence[float]) -> HeldoutLoss:
    """The figures of held-out rows whose summed losses (nats) are given. There must be at least one row."""
    total = math.fsum(losses)
    num_bytes = sum(row.loss_bytes for row in rows)
    return HeldoutLoss(
        loss=total / sum(row.num_loss_tokens for row in rows),
        bits_per_byte=total / math.log(2) / max(1, num_bytes),
    )
