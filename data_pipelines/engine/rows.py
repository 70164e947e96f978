"""The rows of one repository's files, from their texts and picks."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from data_pipelines.document import Origin
from data_pipelines.engine.store import Store
from data_pipelines.extract.registry import extractor_for
from data_pipelines.mine.card import FileCard, LoadedFile, card_of
from data_pipelines.mine.describe import describe_rows
from data_pipelines.mine.docstring import docstring_rows
from data_pipelines.mine.infill import infill_rows
from data_pipelines.mine.links import LinkIndex
from data_pipelines.mine.order import pretrain_packs
from data_pipelines.mine.picks import Picks
from data_pipelines.mine.pretrain import Part, PartText, parts_of, pretrain_row
from data_pipelines.mine.ranking import ContextIndex
from data_pipelines.mine.repo_infill import repo_infill_rows
from data_pipelines.mine.row import Row
from data_pipelines.mine.search_replace import search_replace_rows
from data_pipelines.mine.tests import rows_of_tests
from data_pipelines.task_config import TasksSection
from finetune.contracts.dataset import Slice, Split

# texts of files that rows show; neighbours are shown again and again
LOADED_FILES = 256


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a repository whose text and picks lie in the store; cluster is the name of its near-duplicates.

    split None: it may not be shown at all. kept False: it is a twin of a file that is kept, and gives no rows.
    """

    repo: str
    visibility: str
    path: str
    blob: str
    language: str
    license: str | None
    origin: Origin
    key: bytes
    text: bytes
    bytes: int
    cluster: str
    split: Split | None
    slice: Slice | None
    kept: bool


class FileMiner:
    """Rows of the files of one repository. A row of train shows files of train alone, a held-out row those of both.

    co_changes is what ranking.co_changes gave for the repository.
    """

    def __init__(
        self,
        files: Sequence[SourceFile],
        *,
        store: Store,
        tasks: TasksSection,
        co_changes: Mapping[str, Mapping[str, int]],
    ) -> None:
        self.files = files
        self._store = store
        self._tasks = tasks
        self._co_changes = co_changes
        self._by_path = {file.path: file for file in files if file.split is not None}
        self._sides: dict[Split, _Side] = {}
        self._load = lru_cache(maxsize=LOADED_FILES)(self._loaded)

    def file_at(self, path: str) -> SourceFile:
        """The file at a path that some row may show."""
        return self._by_path[path]

    def rows(self, file: SourceFile) -> Iterator[Row]:
        """Rows of a file; a twin of a file that is kept has none."""
        if not file.kept or file.split is None:
            return
        loaded, side, tasks = self._load(file.path), self._side(file.split), self._tasks
        text, picks, card = loaded.text, loaded.picks, side.cards[file.path]
        yield from infill_rows(file, text, gaps=picks.infill, section=tasks.infill)
        yield from docstring_rows(file, text, units=picks.docstring)
        yield from describe_rows(file, text, units=picks.describe)
        yield from search_replace_rows(file, text, gaps=picks.search_replace, section=tasks.search_replace)
        if picks.repo_infill:
            yield from repo_infill_rows(loaded, card, index=side.context, load=self._load, section=tasks.repo_infill)
        if picks.cases:
            yield from rows_of_tests(loaded, card, index=side.links, load=self._load, section=tasks.tests)

    def packs(self, *, share: int, num_shares: int) -> Iterator[tuple[Row, SourceFile]]:
        """Pretrain rows with their first files: of all rows every num_shares-th, beginning with share."""
        for number, parts in enumerate(self._all_packs()):
            if number % num_shares == share:
                loaded = [self._load(part.path) for part in parts]
                texts = [
                    PartText(item.file, item.text, part.start, part.end)
                    for part, item in zip(parts, loaded, strict=True)
                ]
                yield pretrain_row(texts), self._by_path[parts[0].path]

    def _all_packs(self) -> Iterator[tuple[Part, ...]]:
        kept = [file for file in self.files if file.kept and file.split is not None]
        cards = [self._side(Split.TRAIN).cards[file.path] for file in kept if file.split is Split.TRAIN]
        yield from pretrain_packs(cards, max_bytes=self._tasks.pretrain.max_bytes)
        # held-out files stand alone, so that what is measured on one is the file's
        for file in kept:
            if file.split is Split.HELDOUT:
                card = self._side(Split.HELDOUT).cards[file.path]
                yield from ((part,) for part in parts_of(card.path, card.num_bytes, card.cuts))

    def _side(self, split: Split) -> "_Side":
        if split not in self._sides:
            cards = self._all_cards if split is Split.HELDOUT else self._train_cards()
            context = ContextIndex(cards.values(), co_changes=self._co_changes)
            self._sides[split] = _Side(cards, context, LinkIndex(cards.values()))
        return self._sides[split]

    @cached_property
    def _all_cards(self) -> dict[str, FileCard]:
        return {path: self._card(file, self._by_path.keys()) for path, file in self._by_path.items()}

    def _train_cards(self) -> dict[str, FileCard]:
        paths = {path for path, file in self._by_path.items() if file.split is Split.TRAIN}
        # an import that leads to a file of train among all files leads there among those of train too
        return {
            path: card if paths.issuperset(card.imports) else self._card(self._by_path[path], paths)
            for path, card in self._all_cards.items()
            if path in paths
        }

    def _card(self, file: SourceFile, paths: Collection[str]) -> FileCard:
        return card_of(
            self._picks(file),
            path=file.path,
            language=file.language,
            cluster=file.cluster,
            extractor=extractor_for(file.language),
            paths=paths,
        )

    def _loaded(self, path: str) -> LoadedFile:
        file = self._by_path[path]
        return LoadedFile(file, self._store.text(file.text), self._picks(file))

    def _picks(self, file: SourceFile) -> Picks:
        return Picks.from_bytes(self._store.picks(file.key))


@dataclass(frozen=True, slots=True)
class _Side:
    """The files that rows of one split may show."""

    cards: dict[str, FileCard]
    context: ContextIndex
    links: LinkIndex
