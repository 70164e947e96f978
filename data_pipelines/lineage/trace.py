"""`finetune data trace`: from a file, commit or author to rows, from a row to its sources, and what there is at all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data_pipelines.lineage.forgetting import path_matches, read_forgotten
from data_pipelines.lineage.lineage import Place, RowPlaces, rows_with_places
from data_pipelines.lineage.seen import Trained, trained_on
from data_pipelines.sinks.target import read_manifest
from finetune.contracts.dataset import DatasetManifest, ReasonCount
from finetune.contracts.errors import DatasetError, UsageError
from finetune.contracts.run import Home

MIN_ID_CHARS = 4


@dataclass(frozen=True, slots=True)
class Filter:
    """What a place must have, all of it; "" asks for nothing. path is a glob of .gitignore, author a keyed hash."""

    repo: str = ""
    path: str = ""
    commit: str = ""
    author: str = ""

    def __bool__(self) -> bool:
        return any((self.repo, self.path, self.commit, self.author))

    def holds(self, place: Place) -> bool:
        """Whether a place is one that is sought."""
        return (
            self.repo in ("", place.repo)
            and (not self.path or path_matches(place.path, self.path))
            and place.commit.startswith(self.commit)
            and self.author in ("", place.author)
        )

    def holds_dropped(self, repo: str, path: str, commit: str) -> bool:
        """Whether a line of dropped.parquet is one that is sought; it has no author."""
        return (
            not self.author
            and self.repo in ("", repo)
            and (not self.path or path_matches(path, self.path))
            and commit.startswith(self.commit)
        )


@dataclass(slots=True)
class Traced:
    """Rows that hold what was sought: how many learn from it and how many only show it, and the first of them.

    left_out counts, by stage and reason, files and commits that were sought and gave nothing.
    """

    as_target: int = 0
    as_context: int = 0
    by_kind: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    rows: list[RowPlaces] = field(default_factory=list)
    left_out: tuple[ReasonCount, ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """One repository, file, commit or author of a dataset, and how many rows hold some of it."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is in a dataset: most rows first, limit of each kind, with how many there are in all."""

    repositories: tuple[Named, ...]
    files: tuple[Named, ...]
    authors: tuple[Named, ...]
    commits: tuple[Named, ...]
    totals: dict[str, int]


def trace(folder: Path, wanted: Filter, *, limit: int) -> Traced:
    """Rows that came from what is wanted; of each row only the places that are wanted are kept."""
    manifest, traced = read_manifest(folder), Traced()
    for row in rows_with_places(folder, manifest):
        places = tuple(place for place in row.places if wanted.holds(place))
        if not places:
            continue
        learned = any(place.is_target for place in places)
        traced.as_target += learned
        traced.as_context += not learned
        traced.by_kind[row.task, row.split, row.slice or ""] += 1
        if len(traced.rows) < limit:
            traced.rows.append(_with(row, places))
    traced.left_out = _left_out(folder, wanted)
    return traced


def find_example(folder: Path, prefix: str) -> RowPlaces:
    """The row whose id begins so. Raises UsageError when several do, DatasetError when none does."""
    if len(prefix) < MIN_ID_CHARS:
        raise UsageError(f"{prefix!r} is too short for an id.", f"Give its first {MIN_ID_CHARS} signs at least.")
    found = [row for row in rows_with_places(folder, read_manifest(folder)) if row.id.startswith(prefix.lower())]
    if not found:
        raise DatasetError(f"{folder} has no row {prefix}.", f"Rows with their ids: finetune data inspect {folder}")
    if len({row.id for row in found}) > 1:
        raise UsageError(f"{prefix} fits {len(found)} rows of {folder}.", "Give more of the id.")
    return found[0]


def take_stock(folder: Path, *, limit: int) -> Inventory:
    """What a dataset was made from; memory grows with its files and commits, a number each."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in ("repositories", "files", "authors", "commits")}
    for row in rows_with_places(folder, read_manifest(folder)):
        counts["repositories"].update({place.repo for place in row.places})
        counts["files"].update({f"{place.repo}:{place.path}" for place in row.places})
        counts["authors"].update({place.author for place in row.places})
        counts["commits"].update({f"{place.repo}:{place.commit}" for place in row.places})
    named = {kind: _most(counter, limit) for kind, counter in counts.items()}
    return Inventory(**named, totals={kind: len(counter) for kind, counter in counts.items()})


def trained(folder: Path, manifest: DatasetManifest, *, home: Home) -> list[Trained]:
    """Runs and adapters of a home that learned from this dataset, as it is or as it was."""
    earlier = read_forgotten(folder).digests
    return trained_on(home, {manifest.content_digest}, folders=[folder], earlier=earlier)


def row_document(row: RowPlaces) -> dict[str, object]:
    """A row as JSON has it."""
    places = [{**asdict(place), "role": "target" if place.is_target else "context"} for place in row.places]
    for place in places:
        del place["is_target"]
    return {"id": row.id, "task": row.task, "split": row.split, "slice": row.slice, "places": places}


def _with(row: RowPlaces, places: Sequence[Place]) -> RowPlaces:
    return RowPlaces(row.shard, row.id, row.task, row.split, row.slice, row.language, tuple(places))


def _left_out(folder: Path, wanted: Filter) -> tuple[ReasonCount, ...]:
    from data_pipelines.lineage.dropped import dropped_rows
    from data_pipelines.sinks.parquet import reason_counts

    counts: Counter[tuple[str, str]] = Counter(
        (row.stage, row.reason) for row in dropped_rows(folder) if wanted.holds_dropped(row.repo, row.path, row.commit)
    )
    return reason_counts(counts)


def _most(counter: Counter[str], limit: int) -> tuple[Named, ...]:
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Named(name, rows) for name, rows in ordered[:limit])
