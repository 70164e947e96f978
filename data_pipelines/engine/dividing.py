"""The middle of a build: near-duplicate clusters, then the side of each file and edit."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, count, repeat
from pathlib import Path

from data_pipelines.config import PipelineConfig
from data_pipelines.dedup.clusters import NearTable
from data_pipelines.engine.ledger import EditRow, FileRow, Ledger
from data_pipelines.engine.store import Store
from data_pipelines.sinks.parquet import DropLog
from data_pipelines.split.assign import Item, Placement, SplitPlan, plan_split
from data_pipelines.split.sticky import Sticky
from data_pipelines.split.table import leakage_table
from finetune.contracts.dataset import LeakageRow, Slice, Split
from finetune.contracts.errors import DatasetError

EXACT = 1.0
Slot = tuple[int, Split]


@dataclass(frozen=True, slots=True)
class Division:
    """The plan, its items, and what it did: files of each side, train files purged, what other splits would leak."""

    plan: SplitPlan
    items: tuple[Item, ...]
    num_train: int
    num_heldout: int
    num_purged: int
    leakage: tuple[LeakageRow, ...]


def find_clusters(ledger: Ledger, store: Store, *, config: PipelineConfig, table: Path) -> None:
    """Give every text of the ledger its cluster; similarities that an earlier build found are not computed again."""
    threshold = config.dedup.jaccard if config.dedup.near else EXACT
    table.unlink(missing_ok=True)
    texts: list[bytes] = []
    with NearTable(table) as near:
        for number, text, bands in ledger.number_units():
            near.add(number, bands)
            texts.append(text)
        numbers = {text: number for number, text in enumerate(texts)}
        near.offer(
            (min(numbers[one], numbers[other]), max(numbers[one], numbers[other]), value)
            for one, other, value in store.similarities()
            if one in numbers and other in numbers
        )
        found = near.clusters(lambda unit: store.text(texts[unit]), threshold=threshold)
        store.replace_similarities((texts[one], texts[other], value) for one, other, value in near.compared())
        rows = zip(texts, count(), found.components.tolist(), found.representatives.tolist(), strict=False)
        ledger.set_clusters(rows)
    table.unlink(missing_ok=True)


def divide(
    ledger: Ledger,
    dropped: DropLog,
    *,
    config: PipelineConfig,
    sticky: Sticky,
    names: Sequence[str],
    planted: int | None = None,
) -> Division:
    """Give every file and edit its side; of a cluster one file is kept: the oldest in train, the newest held out.

    The files of the source of number planted go to train, and have no part in where the others go.
    """
    is_own = [file.source != planted for file in ledger.files()]
    file_items = [Item(file.text.hex(), file.origin.time, (file.cluster,)) for file in ledger.files()]
    edit_items = [Item(_edit_key(edit, names), edit.origin.time, edit.clusters) for edit in ledger.edits()]
    own_items = list(compress(file_items, is_own))
    plan = plan_split(own_items, edit_items, section=config.split, seed=config.seed, sticky=sticky, seen=ledger.seen())
    placed = [plan.place(item) if own else Placement(Split.TRAIN) for item, own in zip(file_items, is_own, strict=True)]
    kept, crowded = _one_per_cluster(ledger.files(), file_items, placed)
    heads = {place: file for place, file in enumerate(ledger.files()) if place in crowded}
    sides = _Sides(placed, kept, heads, lambda place: plan.reason(file_items[place]))
    ledger.place_files(sides.rows(ledger.files(), dropped, names))
    _place_edits(ledger, dropped, items=edit_items, plan=plan, names=names)
    items = (*own_items, *edit_items)
    is_item = [*is_own, *repeat(True, len(edit_items))]
    return Division(
        plan=plan,
        items=items,
        num_train=sum(split is Split.TRAIN for _, split in kept),
        num_heldout=sum(split is Split.HELDOUT for _, split in kept),
        num_purged=sum(placement is None for placement in placed),
        leakage=leakage_table(
            items,
            commits=compress(ledger.commits(), is_item),
            paths=(f"{names[source]}:{path}" for source, path in compress(ledger.paths(), is_item)),
            plan=plan,
            seed=config.seed,
        ),
    )


def check_files(ledger: Ledger, config: PipelineConfig, *, where: str, planted: int | None = None) -> None:
    """Raises DatasetError when a split is not possible."""
    number, least = ledger.num_files(but_of=planted), config.split.min_files
    if number < least:
        raise DatasetError(
            f"{where} gives {number} files that can be used; {least} are the least for a split.",
            "Add a repository with another --repo, or lower split.min_files in a pipeline file (docs/data.md).",
        )


def _edit_key(edit: EditRow, names: Sequence[str]) -> str:
    commit = f"{names[edit.source]}:{edit.origin.commit}"
    return f"{commit}:{edit.path}" if edit.kind == "review" else commit


def _one_per_cluster(
    files: Iterable[FileRow], items: Sequence[Item], placed: Sequence[Placement | None]
) -> tuple[dict[Slot, int], frozenset[int]]:
    """For each twin and side the place of the file that is kept, among equally old ones the first; and the places of
    those for which others go.
    """
    best: dict[Slot, int] = {}
    crowded: set[Slot] = set()
    for place, (file, placement) in enumerate(zip(files, placed, strict=True)):
        if placement is None:
            continue
        slot = file.twin, placement.split
        newer = -1 if placement.split is Split.HELDOUT else 1
        other = best.setdefault(slot, place)
        if other != place:
            crowded.add(slot)
            if newer * file.origin.time < newer * items[other].time:
                best[slot] = place
    return best, frozenset(best[slot] for slot in crowded)


@dataclass(frozen=True, slots=True)
class _Sides:
    """Where files go. heads are the files for which twins go, by place; reason is why a file goes nowhere."""

    placed: Sequence[Placement | None]
    kept: Mapping[Slot, int]
    heads: Mapping[int, FileRow]
    reason: Callable[[int], str]

    def rows(
        self, files: Iterable[FileRow], dropped: DropLog, names: Sequence[str]
    ) -> Iterator[tuple[int, Split | None, Slice | None, bool]]:
        """What the ledger notes of each file; those that are not kept go into the drop log."""
        for place, (file, placement) in enumerate(zip(files, self.placed, strict=True)):
            if placement is None:
                _drop(dropped, file, names, stage="split", reason=self.reason(place))
                yield file.id, None, None, False
                continue
            first = self.kept[file.twin, placement.split]
            if first != place:
                head = self.heads[first]
                equal = "equal to" if head.text == file.text else "near-duplicate of"
                name = f"{names[head.source]}:{head.path}"
                _drop(dropped, file, names, stage="dedup", reason=f"{equal} a file that was kept", twin=name)
            yield file.id, placement.split, placement.slice, first == place


def _place_edits(
    ledger: Ledger,
    dropped: DropLog,
    *,
    items: Sequence[Item],
    plan: SplitPlan,
    names: Sequence[str],
) -> None:
    rows = []
    for edit, item in zip(ledger.edits(), items, strict=True):
        placement = plan.place(item)
        if placement is None:
            dropped.add(
                names[edit.source], commit=edit.origin.commit, path=edit.path, stage="split", reason=plan.reason(item)
            )
        rows.append((edit.id, placement.split if placement else None, placement.slice if placement else None))
    ledger.place_edits(rows)


def _drop(dropped: DropLog, file: FileRow, names: Sequence[str], *, stage: str, reason: str, twin: str = "") -> None:
    dropped.add(
        names[file.source],
        commit=file.origin.commit,
        path=file.path,
        stage=stage,
        reason=reason,
        num_bytes=file.bytes,
        twin=twin,
    )
