"""The stage that draws places to ask about: the files of a source in, seeds and its names out. Runs in workers."""

from collections.abc import Iterator
from pathlib import Path
from zlib import compress, decompress

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from data_pipelines.engine.results import EditHead, EditSide
from data_pipelines.engine.rows import SourceFile
from data_pipelines.engine.store import Store
from data_pipelines.engine.writer import SETTINGS_NAME, WriteSettings, read_files
from data_pipelines.extract.registry import extractor_for
from data_pipelines.mine.blocks import find_hunks
from data_pipelines.mine.qa_names import Names
from data_pipelines.mine.qa_seeds import (
    Seed,
    SeedKind,
    Shown,
    choose,
    commit_seed,
    fragment_seeds,
    lines_of,
    symbol_seeds,
)
from data_pipelines.sinks.columns import ColumnFile, read_columns
from finetune.contracts.dataset import Split
from finetune.contracts.io import new_folder, write_bytes

VERSION = 1
TASKS_NAME, SEEDS_NAME, NAMES_NAME = "questions.json", "seeds.parquet", "names.bin"
SEEDS_SCHEMA = pa.schema([("seed", pa.string())])


class SeedTasks(BaseModel):
    """The source of each task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[int, ...]


class StoredShown(BaseModel):
    """Lines of the file at a place in the list of the source's files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: int
    first_line: int
    lines: tuple[str, ...]


class StoredSeed(BaseModel):
    """A Seed on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: SeedKind
    focus: str
    shown: tuple[StoredShown, ...]


def seed_task(stage_folder: Path, number: int, target: Path) -> None:
    """Draw the seeds of one source."""
    settings = WriteSettings.model_validate_json((stage_folder / SETTINGS_NAME).read_bytes())
    source = SeedTasks.model_validate_json((stage_folder / TASKS_NAME).read_bytes()).sources[number]
    files = read_files(stage_folder, source, settings=settings)
    names = Names()
    with Store(settings.store, read_only=True) as store, new_folder(target) as scratch:
        seeder = _Seeder(files, store=store, settings=settings, names=names)
        found = seeder.seeds(stage_folder / f"edits-{source:05d}.parquet")
        qa = settings.config.tasks.qa
        places = {file.path: place for place, file in enumerate(files)}
        with ColumnFile(scratch / SEEDS_NAME, SEEDS_SCHEMA) as columns:
            for seed in choose(found, qa.max_seeds_per_source, seed=settings.config.seed):
                columns.add(_stored(seed, places).model_dump_json())
        write_bytes(scratch / NAMES_NAME, compress(names.content()))


def read_seeds(folder: Path, files: list[SourceFile]) -> Iterator[Seed]:
    """The seeds of a source; files are those that they were drawn from."""
    for (text,) in read_columns(folder / SEEDS_NAME):
        stored = StoredSeed.model_validate_json(text)
        shown = tuple(Shown(files[one.place], one.lines, one.first_line) for one in stored.shown)
        yield Seed(stored.kind, stored.focus, shown)


def read_names(folder: Path) -> Names:
    """The names that occur in a source."""
    return Names(decompress((folder / NAMES_NAME).read_bytes()))


class _Seeder:
    def __init__(self, files: list[SourceFile], *, store: Store, settings: WriteSettings, names: Names) -> None:
        self._files = files
        self._store = store
        self._config = settings.config
        self._names = names
        self._by_path = {file.path: file for file in files if file.kept and file.split is not None}

    def seeds(self, edits: Path) -> Iterator[Seed]:
        """All seeds; names hold those of every file when it has ended."""
        for file in self._files:
            text = self._store.text(file.text)
            self._names.add_text(f"{file.path}\n{text.decode('utf-8')}")
            if file.path in self._by_path:
                yield from self._of_file(file, text)
        for row in read_columns(edits):
            key, split = row[3], row[6]
            head = EditHead.model_validate_json(self._store.heads([key])[key].head)
            seed = self._of_commit(head, Split(split))
            if seed is not None:
                yield seed

    def _of_file(self, file: SourceFile, text: bytes) -> Iterator[Seed]:
        max_lines = self._config.tasks.qa.max_shown_lines
        units = extractor_for(file.language).units(text)
        yield from symbol_seeds(file, text, units=units, max_lines=max_lines)
        yield from fragment_seeds(file, text, max_lines=max_lines, seed=self._config.seed)

    def _of_commit(self, head: EditHead, split: Split) -> Seed | None:
        """The seed of a commit, over those of its files that are on its side and still are what it made of them."""
        shown = []
        for side in head.files:
            file = self._by_path.get(side.path)
            if file is not None and file.split is split and file.text.hex() == side.after:
                shown.append((file, self._store.text(file.text), self._changed(side)))
        return commit_seed(head.message, shown, max_lines=self._config.tasks.qa.max_shown_lines)

    def _changed(self, side: EditSide) -> tuple[int, int]:
        """The first and the last line that an edit changed, in the file after it."""
        before, after = (lines_of(self._store.text(bytes.fromhex(digest))) for digest in (side.before, side.after))
        hunks = find_hunks(before, after)
        first = min((hunk.new_start for hunk in hunks), default=0) + 1
        return min(first, max(1, len(after))), max(first, max((hunk.new_end for hunk in hunks), default=1))


def _stored(seed: Seed, places: dict[str, int]) -> StoredSeed:
    shown = tuple(
        StoredShown(place=places[one.document.path], first_line=one.first_line, lines=one.lines) for one in seed.shown
    )
    return StoredSeed(kind=seed.kind, focus=seed.focus, shown=shown)
