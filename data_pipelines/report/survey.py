"""One pass over the shards for all figures that the manifest does not have, and a second one for the rows to show."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipelines.report.choose import Cell, Choice, Place
from data_pipelines.report.lengths import Lengths
from data_pipelines.sinks.target import REBUILD_HINT
from finetune.contracts.dataset import Example, Shard, Slice, Split
from finetune.contracts.errors import DatasetError
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

    def add(self, row: "RowFacts", place: Place) -> None:
        """Count one row."""
        task = self.tasks[row.task]
        task.learned.add(row.learned)
        task.whole.add(row.whole)
        task.strata[row.stratum] += 1
        task.sides[row.side] += 1
        task.redacted_rows += row.redactions > 0
        task.placeholders += row.redactions
        self.months[month(row.committed_at)][row.side] += 1
        self.repos[row.repo].add(row.learned)
        self.licenses[row.license] += 1
        self.visibilities[row.visibility] += 1
        self.choice.offer(row.task, Cell(row.language, row.repo, row.stratum, row.side), place)


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What a row counts with; repo, license and committed_at are those of its first file, "" and 0 if none."""

    id: str
    task: str
    language: str
    stratum: str
    side: str
    visibility: str
    redactions: int
    learned: int
    whole: int
    repo: str
    license: str
    committed_at: int


def survey_shards(folder: Path, shards: Sequence[Shard], *, progress: Progress | None = None) -> Survey:
    """Read every row once, a few at a time. Raises DatasetError for a shard that is missing or damaged."""
    survey = Survey()
    for number, shard in enumerate(shards):
        for row_number, row in enumerate(_shard_facts(folder / shard.name)):
            survey.add(row, Place(row.id, number, row_number))
        if progress is not None:
            progress.advance(1, f"report {shard.name}")
    return survey


def read_rows(folder: Path, shards: Sequence[Shard], *, places: Sequence[Place]) -> list[Example]:
    """The rows at places, in that order; of a shard only the row groups that hold one are read."""
    found: dict[Place, Example] = {}
    for number, shard in enumerate(shards):
        wanted = {place.row: place for place in places if place.shard == number}
        if wanted:
            found |= {wanted[row]: example for row, example in _rows_at(folder / shard.name, set(wanted))}
    return [found[place] for place in places]


def month(seconds: int) -> str:
    """The month of a commit's time in UTC, NO_MONTH for one that cannot be."""
    if not FIRST_TIME <= seconds < LAST_TIME:
        return NO_MONTH
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m")


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn what pyarrow, the contracts and missing values say about a bad file into a DatasetError that names it."""
    try:
        yield
    except FileNotFoundError as cause:
        raise DatasetError(f"{path} is missing from the dataset.", REBUILD_HINT) from cause
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as cause:
        raise DatasetError(f"{path} is damaged and cannot be read.", REBUILD_HINT) from cause


def _shard_facts(path: Path) -> Iterator[RowFacts]:
    with damage(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_BATCH):
            yield from _facts(batch)


def _rows_at(path: Path, rows: set[int]) -> Iterator[tuple[int, Example]]:
    with damage(path), pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            if any(start <= row < end for row in rows):
                number = start
                for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, row_groups=[group]):
                    for offset in range(batch.num_rows):
                        if number + offset in rows:
                            yield number + offset, Example.model_validate(batch.slice(offset, 1).to_pylist()[0])
                    number += batch.num_rows
            start = end


def _facts(batch: Any) -> Iterator[RowFacts]:
    """Rows of a batch without their texts, which stay in Arrow: only their lengths become Python numbers."""
    segments = _Lists(batch.column("segments"))
    sizes = pc.binary_length(segments.field("text")).to_pylist()
    losses = segments.field("loss").to_pylist()
    first = _Lists(batch.column("provenance"))
    repos, licenses, times = (first.field(name).to_pylist() for name in ("repo", "license", "committed_at"))
    names = ("id", "task", "language", "stratum", "split", "visibility", "redactions")
    columns = [batch.column(name).to_pylist() for name in names]
    # datasets of schema version 1 have no slices
    slices = batch.column("slice").to_pylist() if "slice" in batch.schema.names else [None] * batch.num_rows
    for number, (row_id, task, language, stratum, split, visibility, redactions) in enumerate(
        zip(*columns, strict=True)
    ):
        spans = range(*segments.span(number))
        start, end = first.span(number)
        yield RowFacts(
            id=row_id,
            task=task,
            language=language,
            stratum=stratum,
            side=side_of(Split(split), slices[number]),
            visibility=visibility,
            redactions=redactions,
            learned=sum(sizes[place] for place in spans if losses[place]),
            whole=sum(sizes[place] for place in spans),
            repo=repos[start] if end > start else "",
            license=(licenses[start] or "") if end > start else "",
            committed_at=times[start] if end > start else 0,
        )


def side_of(split: Split, slice_name: str | None) -> str:
    """Where a row lies, in one word: its slice if it has one, else its split."""
    return str(Slice(slice_name)) if slice_name and split is Split.HELDOUT else str(split)


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
