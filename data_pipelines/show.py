"""Datasets as text for a person: figures, and rows with their gap marked."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from data_pipelines.sinks.target import REBUILD_HINT, read_manifest
from finetune.contracts.dataset import CountRow, DatasetManifest, Example, ReasonCount, Role, SourceRecord, Split, Task
from finetune.contracts.errors import DatasetError, UsageError
from finetune.contracts.io import require_file
from finetune.terminal.output import printable, table

NameT = TypeVar("NameT", bound=StrEnum)
# of a long prefix, suffix or context only the part next to the gap, or the beginning, is shown
SHOWN_LINES = 12
MAX_REASONS = 15
MAX_NOTE_CHARS = 100


def choose(kind: type[NameT], name: str | None) -> NameT | None:
    """The member of that name, None for None. Raises UsageError that lists the names there are."""
    if name is None:
        return None
    try:
        return kind(name)
    except ValueError:
        raise UsageError(
            f"There is no {kind.__name__.lower()} {name!r}.", f"Choose one of: {', '.join(kind)}."
        ) from None


def summary(folder: Path, manifest: DatasetManifest) -> str:
    """The figures of a dataset, and the next command."""
    parts = [
        f"Dataset {folder}",
        table([("digest", manifest.content_digest), ("made by", manifest.builder), *_split_lines(manifest)]),
        "Sources",
        _sources_table(manifest.sources),
        "Examples",
        _examples_table(manifest),
        *_leakage(manifest),
        *_reasons("Taken out of the novel slice", manifest.split.leaked),
        *_reasons("Left out", manifest.dropped),
        *_reasons("Redacted", manifest.redacted),
        f"Look at rows: finetune data inspect {folder} --task infill",
    ]
    return "\n\n".join(part for part in parts if part)


def read_rows(folder: Path, *, task: Task | None, split: Split | None, limit: int) -> list[Example]:
    """Up to limit rows, spread over the shards that match. Raises DatasetError when there are none."""
    manifest = read_manifest(folder)
    rows: list[Example] = []
    for shard in manifest.shards:
        if split in (None, shard.split) and len(rows) < limit:
            for example in _shard_rows(folder / shard.name):
                if task in (None, example.task):
                    rows.append(example)
                if len(rows) == limit:
                    break
    if not rows:
        wanted = " ".join(str(name) for name in (split, task) if name)
        raise DatasetError(f"{folder} has no rows of {wanted}.", f"See what there is: finetune data stats {folder}")
    return rows


def page(rows: Sequence[Example]) -> str:
    """Rows one under the other."""
    return "\n\n".join(_row_text(row) for row in rows)


def _shard_rows(path: Path) -> Iterator[Example]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pydantic import ValidationError

    try:
        require_file(path)
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    yield Example.model_validate(row)
    except FileNotFoundError as cause:
        raise DatasetError(f"{path} is missing from the dataset.", REBUILD_HINT) from cause
    except (pa.ArrowException, OSError, ValidationError) as cause:
        raise DatasetError(f"{path} is damaged and cannot be read.", REBUILD_HINT) from cause


def _split_lines(manifest: DatasetManifest) -> list[tuple[str, str]]:
    split = manifest.split
    if split.cutoff_at is not None:
        day = datetime.fromtimestamp(split.cutoff_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        how = f"by time, held out from {day}"
    else:
        how = f"by cluster, because {split.note}"
    files = f"{split.train_files:,} train and {split.heldout_files:,} held-out files, {split.purged:,} twins purged"
    lines = [("split", f"{how}; {files}")]
    # datasets of schema version 1 have no slices
    if split.novel or split.evolving:
        lines.append(("held out", f"{split.novel:,} novel rows, {split.evolving:,} evolving"))
    return lines


def _sources_table(sources: Sequence[SourceRecord]) -> str:
    """The sources; state, weight and note are columns only where one is not as usual."""
    columns: list[tuple[str, list[str]]] = [
        ("repository", [printable(row.repo) for row in sources]),
        ("commit", [row.commit[:12] for row in sources]),
        ("commits", [f"{row.commits:,}" for row in sources]),
        ("files", [f"{row.files:,}" for row in sources]),
        ("size", [_size(row.bytes) for row in sources]),
    ]
    if any(row.weight != 1 for row in sources):
        columns.append(("weight", [f"{row.weight:g}" for row in sources]))
    if any(row.state != "whole" for row in sources):
        columns.append(("state", [row.state for row in sources]))
        columns.append(("note", [_short(row.note) for row in sources]))
    return table(list(zip(*(cells for _, cells in columns), strict=True)), header=[name for name, _ in columns])


def _examples_table(manifest: DatasetManifest) -> str:
    """A line for each task, and one for each of its languages where there are several."""
    lines = []
    for task in sorted({row.task for row in manifest.counts}):
        rows = [row for row in manifest.counts if row.task is task]
        languages = sorted({row.language for row in rows})
        lines.append(_examples_line(str(task), languages[0] if len(languages) == 1 else "all", rows))
        if len(languages) > 1:
            lines += [
                _examples_line("", language, [row for row in rows if row.language == language])
                for language in languages
            ]
    lines.append(_examples_line("all", "", manifest.counts))
    return table(lines, header=("task", "language", "train", "held out", "learned in train"))


def _examples_line(task: str, language: str, rows: Sequence[CountRow]) -> tuple[str, ...]:
    counts = [sum(row.examples for row in rows if row.split is split) for split in Split]
    learned = sum(row.loss_bytes for row in rows if row.split is Split.TRAIN)
    return task, language, *(f"{count:,}" for count in counts), _size(learned)


def _leakage(manifest: DatasetManifest) -> list[str]:
    """What other ways of splitting would leak; of each the held-out items that have a near-duplicate in train."""
    rows = [
        (row.method, f"{row.heldout:,}", f"{row.near:,}", f"{100 * row.near / row.heldout:.1f}%" if row.heldout else "")
        for row in manifest.split.leakage
    ]
    if not rows:
        return []
    header = ("way of splitting", "held out", "near-duplicate in train", "share")
    return ["Leakage: files and edits", table(rows, header=header)]


def _reasons(title: str, rows: Sequence[ReasonCount]) -> list[str]:
    if not rows:
        return []
    ordered = sorted(rows, key=lambda row: (-row.count, row.stage, row.reason))
    shown = [(row.stage, printable(row.reason), f"{row.count:,}") for row in ordered[:MAX_REASONS]]
    if len(ordered) > MAX_REASONS:
        shown.append(("", "other reasons", f"{sum(row.count for row in ordered[MAX_REASONS:]):,}"))
    return [title, table(shown, header=("stage", "reason", "count"))]


def _short(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= MAX_NOTE_CHARS else f"{shown[: MAX_NOTE_CHARS - 4]} ..."


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 100_000 else f"{num_bytes / 1e3:.1f} kB"


def _row_text(row: Example) -> str:
    place = row.provenance[0]
    kind = f"{row.task}/{row.stratum}" if row.stratum else row.task
    head = (
        f"== {kind}  {row.split}  {printable(f'{place.repo}:{place.path}')}:{place.first_line}-{place.last_line}  "
        f"{place.commit[:12]}  id {row.id[:12]}"
    )
    return "\n".join([head, *(_segment_text(segment.role, segment.text, segment.path) for segment in row.segments)])


def _segment_text(role: Role, text: str, path: str | None) -> str:
    lines = text.split("\n")
    if len(lines) > SHOWN_LINES and role is Role.PREFIX:
        lines = [f"... {len(lines) - SHOWN_LINES} lines before", *lines[-SHOWN_LINES:]]
    elif len(lines) > SHOWN_LINES and role is not Role.TARGET:
        lines = [*lines[:SHOWN_LINES], f"... {len(lines) - SHOWN_LINES} lines more"]
    name = f"{role} {path}" if role is Role.CONTEXT and path else str(role)
    shown = ["\t".join(map(printable, line.split("\t"))) for line in lines]
    return "\n".join([f"-- {name}", *(f"  | {line}" for line in shown)])
