"""The first half of a build: every file and commit has a result in the store, and what is kept stands in the ledger."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TypeVar

from data_pipelines.config import PipelineConfig
from data_pipelines.document import Commit, Origin
from data_pipelines.engine.ledger import Ledger
from data_pipelines.engine.reader import PEOPLE_NAME, SETTINGS_NAME
from data_pipelines.engine.results import (
    ANY_PEOPLE,
    EditHead,
    EditItem,
    FileHead,
    FileItem,
    Items,
    ReadSettings,
    people_list,
    settings_key,
)
from data_pipelines.engine.shown import shown_paths
from data_pipelines.engine.sourcing import OpenSource
from data_pipelines.engine.store import Result, State, Store, key_of
from data_pipelines.engine.survey import Entry, Signature, Survey, edit_key, file_key
from data_pipelines.engine.work import Work, write_private
from data_pipelines.executors.run import Stage, run_stage
from data_pipelines.filters.chain import readable_path
from data_pipelines.lineage.forgetting import Forgotten
from data_pipelines.redact.people import People
from data_pipelines.redact.redactor import Redactor
from data_pipelines.sinks.parquet import DropLog
from finetune.contracts.io import to_json
from finetune.terminal.progress import Progress

STAGE = "commit_edit"
FORGOTTEN_STAGE = "forgotten"
TASK_BYTES = 4 << 20
# a commit is a few files, each of them read, redacted and parsed before and after
EDIT_BYTES = 30_000
BATCH = 500
BANDS_BYTES = 256
# the share of candidates that is usable, before any was read and at the least; and how many are read besides
FIRST_SHARE, LEAST_SHARE, SPARE = 0.8, 0.1, 20
ItemT = TypeVar("ItemT")


@dataclass
class Reading:
    """One build's reading. hits counts redactions by rule over what is kept.

    notes tell by the number of a source what later stages could not have of it; lasting are folders beside the surveys
    that the next build has a use for. planted is the number of the canary repository, None without one.
    """

    config: PipelineConfig
    sources: Sequence[OpenSource]
    work: Work
    store: Store
    ledger: Ledger
    dropped: DropLog
    key: bytes
    forgotten: Forgotten
    progress: Progress
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: dict[int, str] = field(default_factory=dict)
    lasting: list[str] = field(default_factory=list)
    planted: int | None = None

    def __post_init__(self) -> None:
        self.people = _people(self.sources)
        self.people_digest = self.people.digest()
        self.redactor = Redactor(self.config.redact, self.key, people=self.people)
        self._settings_keys = [settings_key(self.config, source.section, self.key) for source in self.sources]
        self._authors: dict[str, str] = {}
        self._num_edits = [0 for _ in self.sources]

    def author(self, email: str) -> str:
        """The keyed hash of an author."""
        if email not in self._authors:
            self._authors[email] = self.redactor.author(email)
        return self._authors[email]

    def forgets(self, source: int, paths: Sequence[bytes], email: str) -> str:
        """Why a file or commit must not even be read, "" when it need not be left out."""
        if not self.forgotten:
            return ""
        return self.forgotten.raw_reason(self.sources[source].section.name, paths, self.author(email))

    def file_key(self, source: int, entry: Entry) -> bytes:
        """Equal keys give equal results."""
        return file_key(self._settings_keys[source], entry)

    def edit_key(self, source: int, commit: str) -> bytes:
        """Equal keys give equal results."""
        return edit_key(self._settings_keys[source], commit)

    def fix_key(self, source: int, group: bytes) -> bytes:
        """Equal keys give equal results; group as found_fixes has it."""
        section = self.config.tasks.review_fix.model_dump_json(exclude={"enabled", "weight"})
        return key_of(self._settings_keys[source], "review", section, group)

    def surveys(self) -> Iterator[tuple[int, Survey]]:
        """Sources that were surveyed, with their numbers."""
        for number, source in enumerate(self.sources):
            if source.survey is not None:
                yield number, source.survey


def read_everything(reading: Reading) -> None:
    """Fill the store and the ledger; what is left out goes into the drop log."""
    # what a build that was killed had finished
    for pack in sorted(reading.work.packs.glob("*.db")):
        merge_pack(reading.store, pack)
    edits = reading.config.tasks.commit_edit
    wanted = [_Candidates(reading, number, survey) for number, survey in reading.surveys() if edits.enabled]
    _run(reading, _missing_files(reading))
    while any(candidates.wants_more() for candidates in wanted):
        _run(reading, (item for candidates in wanted for item in candidates.missing()))
    for number, survey in reading.surveys():
        _take_files(reading, number, survey)
    for candidates in wanted:
        candidates.take()


def _people(sources: Sequence[OpenSource]) -> People:
    people = People()
    for source in sources:
        for met in (source.survey, source.reviews):
            found = list(met.people()) if met is not None else []
            people.extend((name for name, _ in found if name), (email for _, email in found if email))
    return people


def _missing_files(reading: Reading) -> Iterator[tuple[FileItem, int]]:
    for number, survey in reading.surveys():
        wanted = (entry for entry in survey.entries() if not entry.reason)
        for batch in batches(entry for entry in wanted if not reading.forgets(number, [entry.path], entry.email)):
            keys = [reading.file_key(number, entry) for entry in batch]
            known = reading.store.states(keys)
            for entry, key in zip(batch, keys, strict=True):
                if still_holds(known.get(key), reading.people_digest):
                    continue
                item = FileItem(
                    source=number,
                    key=key.hex(),
                    path=entry.path.decode(),
                    blob=entry.blob,
                    place=entry.place,
                    marks=_marks_of(reading.store, key, FileHead) if key in known else None,
                )
                yield item, entry.bytes


class _Candidates:
    """The commits of one source that may become edits, newest first, until enough of them did.

    There is one of these for each source, all at once: they hold no commits and no open file.
    """

    def __init__(self, reading: Reading, number: int, survey: Survey) -> None:
        self._reading = reading
        self._number = number
        self._survey = survey
        self._num_read = 0
        self._uncounted: list[str] = []
        self._num_kept = 0
        self._ended = False

    def _wanted(self, *, count: bool = False) -> Iterator[Signature]:
        """Candidates without those that were forgotten, which are not named, but counted if that is asked for."""
        if not self._reading.forgotten:
            yield from self._survey.signatures()
            return
        for commit in self._survey.candidates():
            reason = self._reading.forgets(self._number, [change.path for change in commit.changes], commit.email)
            if not reason:
                yield Signature(commit.id, commit.time, commit.email)
            elif count:
                self._reading.dropped.count(FORGOTTEN_STAGE, reason)

    def wants_more(self) -> bool:
        """Whether too few of the commits that were read are kept; they must be in the store by now."""
        for batch in batches(iter(self._uncounted)):
            states = self._reading.store.states(self._keys(batch))
            assert len(states) == len(batch), "they were read before"
            self._num_kept += sum(not state.reason for state in states.values())
        self._uncounted = []
        return not self._ended and self._num_kept < self._limit

    def missing(self) -> Iterator[tuple[EditItem, int]]:
        """Items for the next commits that were never read, or whose result no longer holds."""
        if not self.wants_more():
            return
        number = self._num_to_read()
        fresh = [commit.id for commit in islice(self._wanted(), self._num_read, self._num_read + number)]
        self._ended = len(fresh) < number
        self._num_read += len(fresh)
        self._uncounted += fresh
        keys = self._keys(fresh)
        known, people = self._reading.store.states(keys), self._reading.people_digest
        wanted = {name: key for name, key in zip(fresh, keys, strict=True) if not still_holds(known.get(key), people)}
        for commit in self._survey.candidates() if wanted else ():
            key = wanted.pop(commit.id, None)
            if key is not None:
                marks = _marks_of(self._reading.store, key, EditHead) if key in known else None
                yield _edit_item(self._number, commit, key, marks), EDIT_BYTES
            if not wanted:
                return

    def _num_to_read(self) -> int:
        """As many as are enough when the next are as often usable as those before."""
        share = self._num_kept / self._num_read if self._num_read else FIRST_SHARE
        return ceil((self._limit - self._num_kept) / max(share, LEAST_SHARE)) + SPARE

    def take(self) -> None:
        """Put the first that are kept into the ledger, and note why the others are not."""
        for rejected, reason in self._survey.rejected():
            self._drop(rejected, reason)
        kept = 0
        for batch in batches(self._wanted(count=True)):
            keys = self._keys([commit.id for commit in batch])
            known = self._reading.store.heads(keys) if kept < self._limit else {}
            for commit, key in zip(batch, keys, strict=True):
                stored = known.get(key)
                if kept == self._limit or stored is None:
                    self._drop(commit.id, f"more than {self._limit} newer edits were kept")
                elif stored.reason:
                    self._drop(commit.id, stored.reason)
                else:
                    self._take(commit, stored)
                    kept += 1

    def _take(self, commit: Signature, stored: Result) -> None:
        head = EditHead.model_validate_json(stored.head)
        sides = [bytes.fromhex(digest) for file in head.files for digest in (file.before, file.after)]
        bands = [stored.bands[start : start + BANDS_BYTES] for start in range(0, len(stored.bands), BANDS_BYTES)]
        self._reading.ledger.add_edit(
            self._number,
            origin=Origin(commit.id, commit.time, self._reading.author(commit.email)),
            key=stored.key,
            head=key_of(stored.head),
            paths=[file.path for file in head.files],
            sides=zip(sides, bands, strict=True),
        )
        count_hits(self._reading, head.hits)

    def _keys(self, commits: Iterable[str]) -> list[bytes]:
        return [self._reading.edit_key(self._number, commit) for commit in commits]

    def _drop(self, commit: str, reason: str) -> None:
        name = self._reading.sources[self._number].section.name
        self._reading.dropped.add(name, commit=commit, path="", stage=STAGE, reason=reason)

    @property
    def _limit(self) -> int:
        return self._reading.config.tasks.commit_edit.max_rows_per_source


def _edit_item(number: int, commit: Commit, key: bytes, marks: str | None) -> EditItem:
    return EditItem(
        source=number,
        key=key.hex(),
        commit=commit.id,
        message=commit.message,
        changes=tuple(
            (path, change.before, change.after)
            for change in commit.changes
            if (path := readable_path(change.path)) is not None
        ),
        marks=marks,
    )


def still_holds(stored: Result | State | None, people: bytes) -> bool:
    """Whether a result is there and was made under this dictionary of persons, or holds under any."""
    return stored is not None and stored.people in (ANY_PEOPLE, people)


def _marks_of(store: Store, key: bytes, kind: type[FileHead | EditHead]) -> str:
    """What an earlier dictionary found in the texts of a result that is there."""
    return kind.model_validate_json(store.heads([key])[key].head).marks


def _run(reading: Reading, items: Iterable[tuple[FileItem | EditItem, int]]) -> None:
    """Read items in workers, and merge what they found."""
    folder = reading.work.new_stage("read")
    targets = tuple(_write_tasks(reading, items, folder))
    if not targets:
        return
    run_readers(reading, Stage("data_pipelines.engine.reader:read_task", folder, targets))


def run_readers(reading: Reading, stage: Stage) -> None:
    """Run a stage whose tasks lie in its folder and whose results are packs, and merge these."""
    settings = ReadSettings(
        config=reading.config.without_sources(),
        sources=tuple(source.section for source in reading.sources),
        commits=tuple(source.commit for source in reading.sources),
        key=reading.key.hex(),
    )
    write_private(stage.folder / SETTINGS_NAME, to_json(settings))
    write_private(stage.folder / PEOPLE_NAME, to_json(people_list(reading.people)))
    reading.progress.total = reading.progress.done + len(stage.targets)
    run_stage(stage, reading.config.run, tick=lambda number: _arrived(reading, stage.targets[number]))


def _write_tasks(reading: Reading, items: Iterable[tuple[FileItem | EditItem, int]], folder: Path) -> Iterator[Path]:
    number, batch, size = 0, [], 0
    for item, num_bytes in items:
        batch.append(item)
        size += num_bytes
        if size >= TASK_BYTES:
            yield _write_task(reading, batch, folder / f"task-{number:05d}.json")
            number, batch, size = number + 1, [], 0
    if batch:
        yield _write_task(reading, batch, folder / f"task-{number:05d}.json")


def _write_task(reading: Reading, batch: Sequence[FileItem | EditItem], path: Path) -> Path:
    path.write_text(Items(items=tuple(batch)).model_dump_json(), encoding="utf-8")
    name = key_of(reading.people_digest, *(item.key for item in batch)).hex()
    return reading.work.packs / f"{name}.db"


def _arrived(reading: Reading, pack: Path) -> None:
    merge_pack(reading.store, pack)
    reading.progress.advance(1, "reading")


def merge_pack(store: Store, pack: Path) -> None:
    """Take a pack into the store and delete it."""
    store.merge(pack)
    pack.unlink()


def _take_files(reading: Reading, number: int, survey: Survey) -> None:
    name = reading.sources[number].section.name
    for batch in batches(_known(reading, number, survey)):
        keys = [reading.file_key(number, entry) for entry in batch]
        known = reading.store.heads([key for entry, key in zip(batch, keys, strict=True) if not entry.reason])
        heads = {key: FileHead.model_validate_json(stored.head) for key, stored in known.items()}
        hidden = {entry.path for entry, key in zip(batch, keys, strict=True) if key in heads and heads[key].path_hit}
        shown = shown_paths(reading.redactor, [entry.path for entry in batch], hidden)
        for entry, key, path in zip(batch, keys, shown, strict=True):
            head = heads.get(key)
            reason = entry.reason or (head.reason if head else "")
            stage = entry.stage or (head.stage if head else "")
            if reason or head is None:
                reading.dropped.add(
                    name, commit=survey.facts.commit, path=path, stage=stage, reason=reason, num_bytes=entry.bytes
                )
                continue
            reading.ledger.add_file(
                number,
                path=entry.path.decode(),
                blob=entry.blob,
                origin=Origin(entry.commit, entry.time, reading.author(entry.email)),
                head=head,
                stored=known[key],
            )
            count_hits(reading, head.hits)


def _known(reading: Reading, number: int, survey: Survey) -> Iterator[Entry]:
    """Files without those that were forgotten, which are counted and not named."""
    for entry in survey.entries():
        reason = reading.forgets(number, [entry.path], entry.email)
        if reason:
            reading.dropped.count(FORGOTTEN_STAGE, reason)
        else:
            yield entry


def count_hits(reading: Reading, hits: Mapping[str, int]) -> None:
    """Add to the redactions of what is kept."""
    for rule, count in hits.items():
        reading.hits["redact", rule] += count


def batches(items: Iterator[ItemT]) -> Iterator[list[ItemT]]:
    """Lists of the items, as many in each as a query takes well."""
    while batch := list(islice(items, BATCH)):
        yield batch
