"""What was left out: samples of every reason, and the clusters of near-duplicates with the file that was kept."""

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import repeat
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow.parquet as pq

from data_pipelines.report.survey import damage
from finetune.contracts.dataset import DROPPED_NAME, ReasonCount, Task

SAMPLES_PER_REASON = 6
MEMBERS_PER_CLUSTER = 8
ROWS_PER_BATCH = 4096
# the stages that give a reason to a commit or a row; every other stage speaks of files
ROW_STAGES = frozenset({*map(str, Task), "leakage", "gate", "mixture"})
# this one speaks of both, in the same words; a file that came as far is not empty, and an edit has no size
SPLIT_STAGE = "split"


class Dropped(NamedTuple):
    """One line of dropped.parquet, the fields that a person looks at. path is "" for a commit."""

    repo: str
    path: str
    commit: str
    bytes: int


COLUMNS = ("stage", "reason", *Dropped._fields)
Drawn: TypeAlias = dict[tuple[str, str], list[tuple[bytes, Dropped]]]


@dataclass(slots=True)
class Cluster:
    """Files left out for one that was kept: how many, and the first few in the order of their names."""

    num_files: int = 0
    num_bytes: int = 0
    members: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Drops:
    """Samples and numbers of edits by (stage, reason), those of edits apart; clusters by "repo:path" of the kept file.

    twins_unnamed counts twins that name no kept file. Memory grows with the files that were kept for a twin, a small
    record each.
    """

    samples: dict[tuple[str, str], list[Dropped]] = field(default_factory=dict)
    edit_samples: dict[tuple[str, str], list[Dropped]] = field(default_factory=dict)
    edits: Counter[tuple[str, str]] = field(default_factory=Counter)
    clusters: dict[str, Cluster] = field(default_factory=lambda: defaultdict(Cluster))
    cluster_sizes: Counter[int] = field(default_factory=Counter)
    twins_unnamed: int = 0


def read_drops(folder: Path) -> Drops:
    """Read dropped.parquet once. Raises DatasetError when it is missing or damaged."""
    drops = Drops()
    drawn: dict[bool, Drawn] = {is_edit: defaultdict(list) for is_edit in (True, False)}
    path = folder / DROPPED_NAME
    with damage(path), pq.ParquetFile(path) as file:
        # datasets of schema version 1 name no twin
        has_twins = "twin" in file.schema_arrow.names
        for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, use_threads=False):
            columns = [batch.column(name).to_pylist() for name in COLUMNS]
            twins = batch.column("twin").to_pylist() if has_twins else repeat("", batch.num_rows)
            for stage, reason, twin, *fields in zip(*columns[:2], twins, *columns[2:], strict=True):
                item, key = Dropped(*fields), (stage, reason)
                is_edit = _is_edit(stage, item)
                drops.edits[key] += is_edit
                _draw(drawn[is_edit][key], item)
                if twin:
                    _note_twin(drops.clusters[twin], item)
                else:
                    drops.twins_unnamed += stage == "dedup"
    drops.samples, drops.edit_samples = _in_order(drawn[False]), _in_order(drawn[True])
    drops.cluster_sizes = Counter(cluster.num_files + 1 for cluster in drops.clusters.values())
    return drops


def divided(rows: Sequence[ReasonCount], drops: Drops) -> tuple[list[ReasonCount], list[ReasonCount]]:
    """Reasons as they count files, and as they count commits and rows; those of both are in both, with a share each."""
    files, others = [], []
    for row in rows:
        num_others = row.count if row.stage in ROW_STAGES else min(row.count, drops.edits[row.stage, row.reason])
        if num_others:
            others.append(row.model_copy(update={"count": num_others}))
        if num_others < row.count:
            files.append(row.model_copy(update={"count": row.count - num_others}))
    return files, others


def _is_edit(stage: str, item: Dropped) -> bool:
    return stage in ROW_STAGES or (stage == SPLIT_STAGE and not item.bytes)


def _in_order(drawn: Drawn) -> dict[tuple[str, str], list[Dropped]]:
    return {key: sorted(item for _, item in kept) for key, kept in sorted(drawn.items())}


def _draw(kept: list[tuple[bytes, Dropped]], item: Dropped) -> None:
    """Keep the items with the lowest digests: a fair sample that does not depend on the order of the rows."""
    key = "\0".join([item.repo, item.path, item.commit]).encode("utf-8", "surrogateescape")
    entry = (blake2b(key, digest_size=8).digest(), item)
    if len(kept) == SAMPLES_PER_REASON:
        if entry >= kept[-1]:
            return
        kept.pop()
    insort(kept, entry)


def _note_twin(cluster: Cluster, item: Dropped) -> None:
    cluster.num_files += 1
    cluster.num_bytes += item.bytes
    insort(cluster.members, f"{item.repo}:{item.path}")
    del cluster.members[MEMBERS_PER_CLUSTER:]
