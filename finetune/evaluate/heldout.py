"""Bits per byte on held-out rows: how well a model predicts text that it never learned from."""

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.contracts.dataset import Example, Split, Task
from finetune.contracts.io import digest_text
from finetune.render.dataset import OpenDataset
from finetune.render.rows import MASKED, Renderer


@dataclass(frozen=True)
class Place:
    """Where an example came from. cluster is its near-duplicate cluster, or the file; "" where there is none.

    slice is novel or evolving.
    """

    repo: str
    path: str
    cluster: str
    language: str
    slice: str


@dataclass(frozen=True)
class HeldoutRow:
    """A row to score. labels hold -100 but at the tokens that spell num_bytes bytes of text.

    task_id is the example's id, with the number of the row behind it where an example has several.
    """

    task_id: str
    task: Task
    place: Place
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    num_tokens: int
    num_bytes: int


def choose_examples(dataset: OpenDataset, tasks: Sequence[Task] | None, *, seed: int) -> list[Example]:
    """The held-out examples of tasks (None: all) in an order that only seed and their ids decide."""
    examples = dataset.examples(Split.HELDOUT, tasks)
    return sorted(examples, key=lambda example: digest_text(f"{seed} {example.id}"))


def heldout_rows(examples: Sequence[Example], renderer: Renderer, *, max_rows: int) -> tuple[HeldoutRow, ...]:
    """The first max_rows rows of examples. The end token is not scored: it is no text, and has no bytes."""
    names = (renderer.family.document_end, renderer.family.turn_end)
    end_tokens = frozenset(renderer.tokenizer.convert_tokens_to_ids(name) for name in names)
    rows: list[HeldoutRow] = []
    for example in examples:
        for number, row in enumerate(renderer.rows(example)):
            if len(rows) == max_rows:
                return tuple(rows)
            labels = without_end(row.labels, end_tokens)
            num_tokens = sum(label != MASKED for label in labels)
            if num_tokens and row.loss_bytes:
                rows.append(
                    HeldoutRow(
                        task_id=f"{example.id}#{number}" if number else example.id,
                        task=example.task,
                        place=place_of(example),
                        input_ids=row.input_ids,
                        labels=labels,
                        num_tokens=num_tokens,
                        num_bytes=row.loss_bytes,
                    )
                )
    return tuple(rows)


def without_end(labels: Sequence[int], end_tokens: frozenset[int]) -> tuple[int, ...]:
    """labels with a last one that is an end token masked."""
    return (*labels[:-1], MASKED) if labels[-1] in end_tokens else tuple(labels)


def place_of(example: Example) -> Place:
    """Where an example came from, by the first of its places."""
    first = example.provenance[0] if example.provenance else None
    repo, path = (first.repo, first.path) if first else ("", "")
    return Place(
        repo=repo,
        path=path,
        cluster=example.cluster or f"{repo}:{path}",
        language=example.language,
        slice=example.slice.value if example.slice else "",
    )
