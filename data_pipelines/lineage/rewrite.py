"""A dataset written anew without the rows that hold something: shards, what was left out, counts and report."""

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.lineage.dropped import dropped_rows
from data_pipelines.lineage.forgetting import Forgotten, write_forgotten
from data_pipelines.report.survey import damage
from data_pipelines.report.write import write_report
from data_pipelines.sinks.parquet import DropLog, reason_counts
from data_pipelines.sinks.rows import ROWS_PER_GROUP, ZSTD_LEVEL
from data_pipelines.split.sticky import SPLIT_NAME
from finetune.contracts.canaries import CANARIES_NAME
from finetune.contracts.dataset import (
    MANIFEST_NAME,
    DatasetManifest,
    ReasonCount,
    Shard,
    Slice,
    SourceRecord,
    Split,
    Task,
)
from finetune.contracts.io import FILE_MODE, digest_file, digest_text, new_folder, write_json

STAGE = "forgotten"


@dataclass
class _Gone:
    """What was taken out: rows and learned bytes by task, split and language, rows by slice, files by split."""

    rows: Counter[tuple[Task, Split, str]] = field(default_factory=Counter)
    learned: Counter[tuple[Task, Split, str]] = field(default_factory=Counter)
    slices: Counter[Slice] = field(default_factory=Counter)
    files: set[tuple[Split, str, str]] = field(default_factory=set)


def rewrite(
    folder: Path, manifest: DatasetManifest, *, gone: Forgotten, forgotten: Forgotten, named: Set[str]
) -> DatasetManifest:
    """Put a dataset without everything of gone in the place of the one at folder, all at once.

    forgotten is the list that goes with it. named are "repo:path" and "repo:commit" whose lines in dropped.parquet go
    too. What earlier builds held out stays decided: its keys are digests. Figures of redaction and of leakage stay
    those of the last build.
    """
    with new_folder(folder) as scratch:
        taken = _Gone()
        shards = tuple(_shards(folder, scratch, manifest.shards, gone=gone, taken=taken))
        dropped = _rewrite_dropped(folder, scratch, manifest, gone=gone, named=named, num_rows=taken.rows.total())
        for name in (SPLIT_NAME, CANARIES_NAME):
            if (folder / name).is_file():
                copyfile(folder / name, scratch / name)
        write_forgotten(scratch, forgotten)
        made = _manifest(manifest, shards, taken=taken, gone=gone)
        made = made.model_copy(update={"dropped": dropped})
        write_json(scratch / MANIFEST_NAME, made)
        write_report(scratch)
    return made


def _shards(folder: Path, scratch: Path, shards: Sequence[Shard], *, gone: Forgotten, taken: _Gone) -> Iterator[Shard]:
    numbers: Counter[Split] = Counter()
    for shard in shards:
        target = scratch / f"{shard.split}-{numbers[shard.split]:05d}.parquet"
        num_rows = _copy_shard(folder / shard.name, target, gone=gone, taken=taken)
        if num_rows:
            numbers[shard.split] += 1
            target.chmod(FILE_MODE)
            yield Shard(name=target.name, split=shard.split, examples=num_rows, sha256=digest_file(target))
        else:
            target.unlink()


def _copy_shard(source: Path, target: Path, *, gone: Forgotten, taken: _Gone) -> int:
    """Copy the rows that stay, as many as it returns; a shard that loses none stays as it is to the byte."""
    num_kept, num_lost = 0, 0
    with damage(source), pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        with pq.ParquetWriter(
            target, schema, compression="zstd", compression_level=ZSTD_LEVEL, store_schema=False
        ) as writer:
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
                goes = [_holds(places, gone) for places in batch.column("provenance").to_pylist()]
                num_lost += sum(goes)
                num_kept += len(goes) - sum(goes)
                for row in batch.filter(pa.array(goes)).to_pylist():
                    _note(row, taken, gone)
                stays = pa.Table.from_batches([batch]).filter(pa.array([not going for going in goes]))
                if stays.num_rows:
                    writer.write_table(stays)
    if not num_lost:
        copyfile(source, target)
    return num_kept


def _holds(places: Sequence[dict[str, Any]], gone: Forgotten) -> bool:
    return any(gone.reason(place["repo"], [place["path"]], place["author"]) for place in places)


def _note(row: dict[str, Any], taken: _Gone, gone: Forgotten) -> None:
    split = Split(row["split"])
    key = Task(row["task"]), split, row["language"]
    taken.rows[key] += 1
    taken.learned[key] += sum(len(part["text"].encode("utf-8")) for part in row["segments"] if part["loss"])
    if split is Split.HELDOUT:
        taken.slices[Slice(row.get("slice") or Slice.EVOLVING)] += 1
    if key[0] is not Task.COMMIT_EDIT:
        taken.files |= {
            (split, place["repo"], place["path"])
            for place in row["provenance"]
            if gone.reason(place["repo"], [place["path"]], place["author"])
        }


def _rewrite_dropped(
    folder: Path,
    scratch: Path,
    manifest: DatasetManifest,
    *,
    gone: Forgotten,
    named: Set[str],
    num_rows: int,
) -> tuple[ReasonCount, ...]:
    counts = Counter({(row.stage, row.reason): row.count for row in manifest.dropped})

    def goes(repo: str, path: str, commit: str) -> bool:
        return bool(gone.reason(repo, [path], "")) or f"{repo}:{path}" in named or f"{repo}:{commit}" in named

    with DropLog(scratch) as log:
        for row in dropped_rows(folder):
            if goes(row.repo, row.path, row.commit):
                counts[row.stage, row.reason] -= 1
                counts[STAGE, "a file or commit that had been left out"] += 1
                continue
            twin_repo, _, twin_path = row.twin.partition(":")
            log.add(
                row.repo,
                commit=row.commit,
                path=row.path,
                stage=row.stage,
                reason=row.reason,
                num_bytes=row.bytes,
                twin="" if row.twin and goes(twin_repo, twin_path, "") else row.twin,
            )
    counts[STAGE, "a row that held some of it"] += num_rows
    return reason_counts(+counts)


def _manifest(
    manifest: DatasetManifest, shards: tuple[Shard, ...], *, taken: _Gone, gone: Forgotten
) -> DatasetManifest:
    ordered = tuple(sorted(shards, key=lambda shard: shard.name))
    counts = []
    for row in manifest.counts:
        key = row.task, row.split, row.language
        if row.examples > taken.rows[key]:
            update = {"examples": row.examples - taken.rows[key], "loss_bytes": row.loss_bytes - taken.learned[key]}
            counts.append(row.model_copy(update=update))
    files = Counter(split for split, _, _ in taken.files)
    split = manifest.split
    return manifest.model_copy(
        update={
            "content_digest": digest_text("\n".join(shard.sha256 for shard in ordered)),
            "sources": tuple(_source(record, gone) for record in manifest.sources),
            "shards": ordered,
            "counts": tuple(counts),
            "split": split.model_copy(
                update={
                    "train_files": max(0, split.train_files - files[Split.TRAIN]),
                    "heldout_files": max(0, split.heldout_files - files[Split.HELDOUT]),
                    "novel": max(0, split.novel - taken.slices[Slice.NOVEL]),
                    "evolving": max(0, split.evolving - taken.slices[Slice.EVOLVING]),
                }
            ),
        }
    )


def _source(record: SourceRecord, gone: Forgotten) -> SourceRecord:
    if record.repo not in gone.repositories:
        return record
    nothing = {"commit": "", "commits": 0, "files": 0, "bytes": 0}
    return record.model_copy(update={**nothing, "state": "skipped", "note": "Its repository was forgotten."})
