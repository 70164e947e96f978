"""How many planted copies came through: looked up in the rows as they were written, word for word."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from finetune.contracts.canaries import CANARY_REPO, Canary, CanaryPlan, CanarySurvival
from finetune.contracts.dataset import Shard, Split

COLUMNS = ["segments", "provenance"]
Copy = tuple[str, str]
"""A canary's id, and the file in which it stands."""


def count_survival(folder: Path, shards: Iterable[Shard], plan: CanaryPlan) -> tuple[CanarySurvival, ...]:
    """By kind and tier, how many copies stand in the train rows of the shards in folder."""
    by_path: dict[str, list[Canary]] = {}
    for canary in plan.canaries:
        for place in canary.places:
            by_path.setdefault(place.path, []).append(canary)
    shown: set[Copy] = set()
    learned: set[Copy] = set()
    for row in _canary_rows(folder, shards):
        for segment in row["segments"]:
            path = segment["path"] or row["provenance"][0]["path"]
            found = {(canary.id, path) for canary in by_path.get(path, ()) if canary.secret in segment["text"]}
            shown |= found
            learned |= found if segment["loss"] else set()
    planted = [canary for canary in plan.canaries if not canary.is_control]
    tiers = dict.fromkeys((canary.kind, canary.copies) for canary in planted)
    return tuple(
        CanarySurvival(
            kind=kind,
            copies=copies,
            planted=sum(len(canary.places) for canary in planted if (canary.kind, canary.copies) == (kind, copies)),
            shown=_num_of(planted, (kind, copies), shown),
            learned=_num_of(planted, (kind, copies), learned),
        )
        for kind, copies in tiers
    )


def _num_of(planted: Sequence[Canary], tier: tuple[str, int], copies: set[Copy]) -> int:
    ids = {canary.id for canary in planted if (canary.kind, canary.copies) == tier}
    return sum(name in ids for name, _ in copies)


def _canary_rows(folder: Path, shards: Iterable[Shard]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        if shard.split is Split.TRAIN:
            with pq.ParquetFile(folder / shard.name) as file:
                for batch in file.iter_batches(columns=COLUMNS):
                    for row in batch.to_pylist():
                        if row["provenance"] and row["provenance"][0]["repo"] == CANARY_REPO:
                            yield row
