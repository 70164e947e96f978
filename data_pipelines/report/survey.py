"""All figures that the manifest does not have, from one pass over the rows, and a second one for the rows to show."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipelines.report.choose import Cell, Choice, Place
from data_pipelines.report.lengths import Lengths
from data_pipelines.sinks.rows import SLICES, TASKS, WrittenRow
from data_pipelines.sinks.target import REBUILD_HINT
from finetune.contracts.dataset import Example, Shard, Slice, Split
from finetune.contracts.errors import DatasetError
from finetune.contracts.io import require_file
from finetune.terminal.progress import Progress

ROWS_PER_BATCH = 64
NO_MONTH = ""
# what lies outside is no date of a commit but a damaged one (git itself is of 2005; imported history is older)
FIRST_TIME, LAST_TIME = 1, int(datetime(2200, 1, 1, tzinfo=UTC).timestamp())
SIDES = ("train", "novel", "evolving", "heldout")


@dataclass(slots=True)
class TaskSurvey:
    """Figures of one task: bytes that are learned and bytes of whole rows, rows by stratum and with placeholders."""

    learned: Lengths = field(default_factory=Lengths)
    whole: Lengths = field(default_factory=Lengths)
    strata: Counter[str] = field(default_factory=Counter)
    sides: Counter[str] = field(default_factory=Counter)
    redacted_rows: int = 0
    placeholders: int = 0


@dataclass(slots=True)
class Survey:
    """Figures over all rows. A month is "2026-03", NO_MONTH where no date is known; sides are those of SIDES."""

    tasks: dict[str, TaskSurvey] = field(default_factory=lambda: defaultdict(TaskSurvey))
    months: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    repos: dict[str, Lengths] = field(default_factory=lambda: defaultdict(Lengths))
    licenses: Counter[str] = field(default_factory=Counter)
    visibilities: Counter[str] = field(default_factory=Counter)
    choice: Choice = field(default_factory=Choice)

    def add(self, row: WrittenRow, side: str, *, shard: str, number: int) -> None:
        """Count one row, which stands in a shard as the one of this number."""
        task = self.tasks[row.task]
        task.learned.add(row.learned_bytes)
        task.whole.add(row.whole_bytes)
        task.strata[row.stratum] += 1
        task.sides[side] += 1
        task.redacted_rows += row.redactions > 0
        task.placeholders += row.redactions
        self.months[month(row.committed_at)][side] += 1
        self.repos[row.repo].add(row.learned_bytes)
        self.licenses[row.license] += 1
        self.visibilities[row.visibility] += 1
        cell = Cell(row.language, row.repo, row.stratum, side)
        self.choice.offer(row.task, cell, Place(row.id, shard, number))


def survey_shards(folder: Path, shards: Sequence[Shard], *, progress: Progress | None = None) -> Survey:
    """Read every row once, a few at a time. Raises DatasetError for a shard that is missing or damaged."""
    survey = Survey()
    for shard in shards:
        for number, row in enumerate(_shard_rows(folder / shard.name)):
            survey.add(row, side_of(shard.split, row.slice), shard=shard.name, number=number)
        if progress is not None:
            progress.advance(1, f"report {shard.name}")
    return survey


def read_rows(folder: Path, places: Iterable[Place]) -> dict[Place, Example]:
    """The rows at places; of a shard only the row groups that hold one are read, so ask for all rows at once."""
    by_shard: dict[str, dict[int, Place]] = defaultdict(dict)
    for place in places:
        by_shard[place.shard][place.row] = place
    return {
        wanted[row]: example
        for shard, wanted in by_shard.items()
        for row, example in _rows_at(folder / shard, sorted(wanted))
    }


@lru_cache(maxsize=1024)
def month(seconds: int) -> str:
    """The month of a commit's time in UTC, NO_MONTH for one that cannot be."""
    if not FIRST_TIME <= seconds < LAST_TIME:
        return NO_MONTH
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m")


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn what pyarrow, the contracts and missing values say about a bad file into a DatasetError that names it."""
    try:
        require_file(path)
        yield
    except FileNotFoundError as cause:
        raise DatasetError(f"{path} is missing from the dataset.", REBUILD_HINT) from cause
    except (pa.ArrowException, OSError, AttributeError, KeyError, TypeError, ValueError) as cause:
        raise DatasetError(f"{path} is damaged and cannot be read.", REBUILD_HINT) from cause


def _shard_rows(path: Path) -> Iterator[WrittenRow]:
    with damage(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, use_threads=False):
            yield from _batch_rows(batch)


def _rows_at(path: Path, rows: Sequence[int]) -> Iterator[tuple[int, Example]]:
    with damage(path), pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            here = [row for row in rows if start <= row < end]
            if here:
                table = file.read_row_group(group, use_threads=False)
                for row in here:
                    yield row, Example.model_validate(table.slice(row - start, 1).to_pylist()[0])
            start = end


def _batch_rows(batch: Any) -> Iterator[WrittenRow]:
    """Rows of a batch without their texts, which stay in Arrow: only their lengths become Python numbers."""
    segments = _Lists(batch.column("segments"))
    sizes = pc.binary_length(segments.field("text")).to_pylist()
    losses = segments.field("loss").to_pylist()
    first = _Lists(batch.column("provenance"))
    repos, licenses, times = (first.field(name).to_pylist() for name in ("repo", "license", "committed_at"))
    names = ("id", "task", "language", "stratum", "visibility", "redactions")
    columns = [batch.column(name).to_pylist() for name in names]
    # datasets of schema version 1 have no slices
    slices = batch.column("slice").to_pylist() if "slice" in batch.schema.names else [None] * batch.num_rows
    for number, (row_id, task, language, stratum, visibility, redactions) in enumerate(zip(*columns, strict=True)):
        spans = range(*segments.span(number))
        start, end = first.span(number)
        yield WrittenRow(
            id=row_id,
            repo=repos[start] if end > start else "",
            task=TASKS[task],
            language=language,
            slice=SLICES[slices[number]],
            learned_bytes=sum(sizes[place] for place in spans if losses[place]),
            whole_bytes=sum(sizes[place] for place in spans),
            stratum=stratum,
            visibility=visibility,
            redactions=redactions,
            license=(licenses[start] or "") if end > start else "",
            committed_at=times[start] if end > start else 0,
        )


def side_of(split: Split, part: Slice | None) -> str:
    """Where a row lies, in one word: its slice if it has one, else its split."""
    return str(part if part and split is Split.HELDOUT else split)


class _Lists:
    """A column of lists of structs, flattened, with the span of each row in it."""

    def __init__(self, column: Any) -> None:
        self._flat = column.flatten()
        offsets = column.offsets.to_pylist()
        self._offsets = [offset - offsets[0] for offset in offsets]

    def field(self, name: str) -> Any:
        return self._flat.field(name)

    def span(self, row: int) -> tuple[int, int]:
        return self._offsets[row], self._offsets[row + 1]
