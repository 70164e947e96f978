"""The end of a build: parts become shards, the gate is asked, and the manifest tells what there is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.engine.writing import read_part
from data_pipelines.mine.mixture import RowMeta, choose
from data_pipelines.report.survey import Survey, side_of
from data_pipelines.sinks.parquet import EXAMPLE_SCHEMA, DropLog
from data_pipelines.sinks.rows import ROWS_PER_GROUP, ZSTD_LEVEL, WrittenRow, read_written
from data_pipelines.split.gate import KNOWN_REASON, Fate, Gate, open_gate
from data_pipelines.split.leakage import Marks
from data_pipelines.split.marks import read_asked
from finetune.contracts.dataset import CountRow, Shard, Slice, Split, Task
from finetune.contracts.io import FILE_MODE, digest_bytes, digest_file

# 64 MiB of marks before the files of train are looked through once more; a row's objects take as much as 100 words
WORDS_PER_CHECK, ROW_WORDS = 1 << 23, 100
CountKey = tuple[Task, Split, str]


@dataclass
class Assembled:
    """Shards of a dataset, rows by task, split and language, held-out rows by slice, and what the report tells."""

    folder: Path
    shards: list[Shard] = field(default_factory=list)
    rows: Counter[CountKey] = field(default_factory=Counter)
    learned: Counter[CountKey] = field(default_factory=Counter)
    slices: Counter[Slice] = field(default_factory=Counter)
    survey: Survey = field(default_factory=Survey)

    def counts(self) -> tuple[CountRow, ...]:
        """Examples and learned bytes, sorted by task, split and language."""
        return tuple(
            CountRow(task=key[0], split=key[1], language=key[2], examples=number, loss_bytes=self.learned[key])
            for key, number in sorted(self.rows.items())
        )

    def new_shard(self, split: Split) -> Path:
        """The path of the next shard of a split."""
        number = sum(shard.split is split for shard in self.shards)
        return self.folder / f"{split}-{number:05d}.parquet"

    def add(self, path: Path, split: Split, written: Sequence[WrittenRow]) -> None:
        """Note a shard that stands at path, and the rows in it."""
        path.chmod(FILE_MODE)
        self.shards.append(Shard(name=path.name, split=split, examples=len(written), sha256=digest_file(path)))
        for number, row in enumerate(written):
            key = row.task, split, row.language
            self.rows[key] += 1
            self.learned[key] += row.learned_bytes
            self.survey.add(row, side_of(split, row.slice), shard=path.name, number=number)


def assemble(
    scratch: Path, folders: Sequence[Path], dropped: DropLog, *, budget: int | None, weights: Mapping[str, float]
) -> tuple[Assembled, Gate]:
    """Put the rows of all parts into scratch as shards; budget and weights as in mixture.choose, by repository."""
    made = Assembled(scratch)
    for folder in folders:
        for row in read_part(folder).dropped:
            dropped.count(row.stage, row.reason, row.count)
    left_out = _over_budget(folders, dropped, budget, weights) if budget is not None else frozenset()
    for folder in folders:
        _add_train(folder, made, left_out=left_out)
    gate = open_gate(list(folders))
    novel: list[tuple[str, Marks]] = []
    num_words = 0
    for folder in folders:
        found = _add_heldout(folder, made, gate=gate, dropped=dropped)
        novel += found
        num_words += sum(ROW_WORDS + len(m.runs) + len(m.functions) + len(m.changes) for _, m in found)
        if num_words > WORDS_PER_CHECK:
            gate.check(novel)
            novel, num_words = [], 0
    gate.check(novel)
    return made, gate


def _over_budget(
    folders: Sequence[Path], dropped: DropLog, budget: int | None, weights: Mapping[str, float]
) -> frozenset[str]:
    left_out: set[str] = set()
    metas: list[RowMeta] = []
    for folder in folders:
        rows = [RowMeta(row.id, row.task, row.repo, row.learned_bytes) for row in read_written(folder, Split.TRAIN)]
        # parts of one repository follow one another, and each repository has a budget of its own
        if metas and rows and rows[0].repo != metas[0].repo:
            left_out |= _over(metas, dropped, budget, weights)
            metas = []
        metas += rows
    return frozenset(left_out | _over(metas, dropped, budget, weights))


def _over(rows: Sequence[RowMeta], dropped: DropLog, budget: int | None, weights: Mapping[str, float]) -> set[str]:
    chosen = choose(rows, budget=budget, source_weights=weights)
    for (task, reason), number in chosen.left_out.items():
        dropped.count(task, reason, number)
    return {row.id for row in rows} - chosen.ids


def _add_train(folder: Path, made: Assembled, *, left_out: frozenset[str]) -> None:
    written = read_written(folder, Split.TRAIN)
    keeps = [row.id not in left_out for row in written]
    if not any(keeps):
        return
    target = made.new_shard(Split.TRAIN)
    _put_rows(folder / "train.parquet", target, keeps=keeps, moves=[False] * len(keeps))
    made.add(target, Split.TRAIN, [row for row, stays in zip(written, keeps, strict=True) if stays])


def _add_heldout(folder: Path, made: Assembled, *, gate: Gate, dropped: DropLog) -> list[tuple[str, Marks]]:
    """Add the held-out rows of a part; those that stay novel, with what they ask."""
    written = read_written(folder, Split.HELDOUT)
    asked = read_asked(folder)
    fates = gate.fates(asked, [row.slice is Slice.NOVEL for row in written])
    kept = []
    for row, fate in zip(written, fates, strict=True):
        if fate is Fate.GOES:
            dropped.count(row.task, KNOWN_REASON)
        else:
            kept.append(row._replace(slice=Slice.EVOLVING) if fate is Fate.MOVES else row)
            made.slices[kept[-1].slice or Slice.EVOLVING] += 1
    if kept:
        target = made.new_shard(Split.HELDOUT)
        keeps, moves = [fate is not Fate.GOES for fate in fates], [fate is Fate.MOVES for fate in fates]
        _put_rows(folder / "heldout.parquet", target, keeps=keeps, moves=moves)
        made.add(target, Split.HELDOUT, kept)
    novel = [row.slice is Slice.NOVEL and fate is Fate.STAYS for row, fate in zip(written, fates, strict=True)]
    return [(asked.ids[place], asked.marks(place)) for place, is_novel in enumerate(novel) if is_novel]


def _put_rows(source: Path, target: Path, *, keeps: Sequence[bool], moves: Sequence[bool]) -> None:
    """Copy the rows that stay, those that move as evolving.

    Most parts meet the same fates in the next build, so what was made of one stands beside it, named by these fates
    and by its own digest.
    """
    if all(keeps) and not any(moves):
        copyfile(source, target)
        return
    prefix = f"{source.stem}-chosen-"
    fates = digest_bytes(bytes(keeps) + bytes(moves))[:32]
    for made in source.parent.glob(f"{prefix}{fates}-*"):
        if made.name.endswith(digest_file(made)):
            copyfile(made, target)
            return
    for old in source.parent.glob(f"{prefix}*"):
        old.unlink()
    _copy_rows(source, target, keeps=keeps, moves=moves)
    copyfile(target, source.parent / f"{prefix}{fates}-{digest_file(target)}")


def _copy_rows(source: Path, target: Path, *, keeps: Sequence[bool], moves: Sequence[bool]) -> None:
    place = EXAMPLE_SCHEMA.get_field_index("slice")
    first = 0
    with (
        pq.ParquetFile(source) as rows,
        pq.ParquetWriter(
            target, EXAMPLE_SCHEMA, compression="zstd", compression_level=ZSTD_LEVEL, store_schema=False
        ) as writer,
    ):
        for batch in rows.iter_batches(batch_size=ROWS_PER_GROUP):
            last = first + batch.num_rows
            slices = [
                Slice.EVOLVING.value if moved else value
                for value, moved in zip(batch.column(place).to_pylist(), moves[first:last], strict=True)
            ]
            table = pa.Table.from_batches([batch]).set_column(
                place, EXAMPLE_SCHEMA.field(place), pa.array(slices, pa.string())
            )
            writer.write_table(table.cast(EXAMPLE_SCHEMA).filter(pa.array(keeps[first:last])))
            first = last
