"""Which train rows are kept: a share of each task, and so many learned bytes of each repository."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from finetune.contracts.dataset import Task

NO_WEIGHTS: Mapping[Task, float] = {}


@dataclass(frozen=True, slots=True)
class RowMeta:
    """What the mixture must know of a row: 100 bytes or so, kept for one repository at a time."""

    id: str
    task: Task
    repo: str
    learned_bytes: int


@dataclass(frozen=True, slots=True)
class Mixture:
    """ids of the rows that are kept, and how many of each task were left out for which reason."""

    ids: frozenset[str]
    left_out: Mapping[tuple[Task, str], int]


def choose(
    rows: Iterable[RowMeta],
    *,
    weights: Mapping[Task, float] = NO_WEIGHTS,
    budget: int | None = None,
    source_weights: Mapping[str, float] | None = None,
) -> Mixture:
    """The rows that are kept, whatever their order and however they are divided among calls by whole repositories.

    weights holds the share of a task's rows that is kept (1 where it is silent). budget is in learned bytes for a
    repository of weight 1, source_weights says which have another; None keeps all. A row has a number that its id
    alone decides; the share keeps those below its weight, the budget the lowest in proportion to their weight, so
    that a smaller share or budget keeps a part of what a larger one keeps. A row too large for what is left of the
    budget ends it.
    """
    left_out: Counter[tuple[Task, str]] = Counter()
    by_repo: dict[str, list[tuple[float, RowMeta]]] = defaultdict(list)
    for row in rows:
        priority = priority_of(row.id, weights.get(row.task, 1.0))
        if priority < 1:
            by_repo[row.repo].append((priority, row))
        else:
            left_out[row.task, "mixture weight"] += 1
    ids: set[str] = set()
    for repo, found in by_repo.items():
        limit = None if budget is None else budget * (source_weights or {}).get(repo, 1.0)
        kept = _within(found, limit)
        ids.update(row.id for row in kept)
        for _, row in found:
            if row.id not in ids:
                left_out[row.task, f"over the budget of {repo}"] += 1
    return Mixture(frozenset(ids), dict(sorted(left_out.items())))


def priority_of(row_id: str, weight: float) -> float:
    """A number of which those below 1 are kept; never below 1 for the weight 0, always for the weight 1."""
    if weight <= 0:
        return float("inf")
    draw = int.from_bytes(blake2b(row_id.encode("utf-8"), digest_size=8).digest()) / (1 << 64)
    return min(draw, 1 - 2**-53) / weight


def _within(rows: list[tuple[float, RowMeta]], limit: float | None) -> list[RowMeta]:
    ordered = [row for _, row in sorted(rows, key=lambda item: (item[0], item[1].id))]
    if limit is None:
        return ordered
    total = 0
    for count, row in enumerate(ordered):
        total += row.learned_bytes
        if total > limit:
            return ordered[:count]
    return ordered
