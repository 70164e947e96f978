"""What one repository holds at one commit, found in a single walk: files with their origin, commits, persons.

A survey is a folder that never changes: its name is a key over the commit and the settings that shape it. Everything
that grows with the repository lies in Parquet files, so that a reader needs a batch of rows at a time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from data_pipelines.config import PipelineConfig, SourceSection
from data_pipelines.document import Change, Commit, TreeEntry
from data_pipelines.engine.history import History, read_history
from data_pipelines.engine.store import key_of
from data_pipelines.filters.chain import FilterChain
from data_pipelines.filters.context import RepositoryContext, place_text
from data_pipelines.filters.language import is_wanted
from data_pipelines.filters.paths import readable_path
from data_pipelines.filters.survey import main_authors, read_context
from data_pipelines.mine.ranking import co_changes
from data_pipelines.redact.people import People
from data_pipelines.sinks.columns import ColumnFile, read_columns
from data_pipelines.sources.git import Repository, open_repository
from finetune.contracts.errors import DatasetError, RepositoryError
from finetune.contracts.io import new_folder, read_model, write_json

VERSION = 3
FACTS_NAME, ENTRIES_NAME, PEOPLE_NAME = "survey.json", "entries.parquet", "people.parquet"
COMMITS_NAME, REJECTED_NAME, CHANGES_NAME = "commits.parquet", "rejected.parquet", "changes.parquet"
ENTRY_SCHEMA = pa.schema(
    [
        ("path", pa.binary()),
        ("blob", pa.string()),
        ("bytes", pa.int64()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("place", pa.string()),
        ("commit", pa.string()),
        ("time", pa.int64()),
        ("email", pa.string()),
    ]
)
COMMIT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("time", pa.int64()),
        ("email", pa.string()),
        ("name", pa.string()),
        ("message", pa.string()),
        ("changes", pa.binary()),
    ]
)
REJECTED_SCHEMA = pa.schema([("id", pa.string()), ("reason", pa.string())])
CHANGES_SCHEMA = pa.schema([("path", pa.string()), ("other", pa.string()), ("count", pa.int64())])
PEOPLE_SCHEMA = pa.schema([("name", pa.string()), ("email", pa.string())])


class SurveyFacts(BaseModel):
    """The small part of a survey. license is that of the repository as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str
    num_commits: int
    num_files: int
    num_bytes: int
    license: str | None
    note: str = ""
    """What could not be read; "" when all was."""
    error: str = ""
    """Why nothing of it can be used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the tree. stage and reason say why it is left out before it is read, "" when it is not.

    place is what the repository says of the path, a PathContext in JSON, "" for a file that is left out; commit, time
    and email are those of the commit that gave the file its content.
    """

    path: bytes
    blob: str
    bytes: int
    stage: str
    reason: str
    place: str
    commit: str
    time: int
    email: str


class Signature(NamedTuple):
    """Which commit it is, when it was made, and by whom."""

    id: str
    time: int
    email: str


class Survey:
    """A survey on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hint = f"Delete {folder}, then build again: it is only a cache."
        self.facts = read_model(folder / FACTS_NAME, SurveyFacts, error=DatasetError, hint=hint)

    def entries(self) -> Iterator[Entry]:
        """Files in git's order."""
        for row in read_columns(self.folder / ENTRIES_NAME):
            yield Entry(*row)

    def candidates(self) -> Iterator[Commit]:
        """Commits that may become edits, newest first."""
        for id_, time, email, name, message, changes in read_columns(self.folder / COMMITS_NAME):
            yield Commit(id_, time, email, name, message, _unpacked(changes))

    def signatures(self) -> Iterator[Signature]:
        """The same commits, without what is large in them."""
        for row in read_columns(self.folder / COMMITS_NAME, Signature._fields):
            yield Signature(*row)

    def rejected(self) -> Iterator[tuple[str, str]]:
        """Commits that give no edit, and why."""
        yield from read_columns(self.folder / REJECTED_NAME)

    def co_changes(self) -> dict[str, dict[str, int]]:
        """For each path with which others it was changed, and how often."""
        found: dict[str, dict[str, int]] = {}
        for path, other, count in read_columns(self.folder / CHANGES_NAME):
            found.setdefault(path, {})[other] = count
        return found

    def people(self) -> Iterator[tuple[str, str]]:
        """Names and addresses of those who wrote the commits or are named in their trailers; one may be ""."""
        yield from read_columns(self.folder / PEOPLE_NAME)


def file_key(settings: bytes, entry: Entry) -> bytes:
    """Names the result of a file under settings, a results.settings_key: equal keys give equal results."""
    return key_of(settings, entry.blob, entry.path, entry.place)


def edit_key(settings: bytes, commit: str) -> bytes:
    """Names the result of a commit, as file_key."""
    return key_of(settings, "edit", commit)


def survey_key(config: PipelineConfig, source: SourceSection, commit: str) -> bytes:
    """The name of the survey of a source at a commit."""
    return key_of(
        "survey",
        VERSION,
        commit,
        config.languages,
        config.other_languages,
        config.filters.model_dump_json(),
        config.tasks.commit_edit.model_dump_json(),
        source.model_dump_json(exclude={"path", "ref", "weight", "visibility", "reviews"}),
    )


def write_survey(config: PipelineConfig, source: SourceSection, *, commit: str, target: Path) -> None:
    """Survey a repository; target appears when everything is written. One that is damaged beyond use has an error."""
    try:
        _write_survey(config, source, commit=commit, target=target)
    except RepositoryError as error:
        facts = SurveyFacts(
            commit=commit, num_commits=0, num_files=0, num_bytes=0, license=None, error=without_path(error, source)
        )
        with new_folder(target) as scratch:
            write_json(scratch / FACTS_NAME, facts)


def without_path(error: RepositoryError, source: SourceSection) -> str:
    """What is wrong with a source, for a manifest, which does not tell where on this machine it lies."""
    return error.message.replace(str(source.path), source.name)


def _write_survey(config: PipelineConfig, source: SourceSection, *, commit: str, target: Path) -> None:
    with open_repository(source.path, name=source.name, ref=commit) as repository:
        entries = repository.entries()
        people = People()
        history = read_history(
            repository, entries, section=config.tasks.commit_edit, languages=config.languages, people=people
        )
        with new_folder(target) as scratch:
            context = read_context(entries, repository.content, source=source, authors=main_authors(history.authors))
            chain = FilterChain(config, context, filters=config.filters_of(source))
            _write_entries(scratch, entries, chain=chain, context=context, history=history, head=repository.commit)
            _write_commits(scratch, history, _EditFilter(chain, context, config.languages))
            facts = _facts(entries, history=history, context=context, repository=repository)
            _write_people(scratch, people)
            _write_changes(scratch, history)
            write_json(scratch / FACTS_NAME, facts)


def _write_entries(
    scratch: Path,
    entries: list[TreeEntry],
    *,
    chain: FilterChain,
    context: RepositoryContext,
    history: History,
    head: str,
) -> None:
    with ColumnFile(scratch / ENTRIES_NAME, ENTRY_SCHEMA) as writer:
        for entry in entries:
            path = readable_path(entry.path)
            changes = history.num_changes[entry.path]
            place = context.for_path(path, num_local_commits=changes - 1 if changes else None) if path else None
            verdict = chain.by_entry(entry, place)
            origin = history.last.get(entry.path) or history.head
            writer.add(
                entry.path,
                entry.blob,
                max(0, entry.bytes),
                verdict.stage,
                verdict.reason,
                place_text(place) if place and verdict.keeps else "",
                origin.id if origin else head,
                origin.time if origin else 0,
                origin.email if origin else "",
            )


def _facts(
    entries: list[TreeEntry], *, history: History, context: RepositoryContext, repository: Repository
) -> SurveyFacts:
    notes = [*context.notes, repository.damage()]
    return SurveyFacts(
        commit=repository.commit,
        num_commits=history.num_commits,
        num_files=len(entries),
        num_bytes=sum(max(0, entry.bytes) for entry in entries),
        license=context.license_by_folder().get(""),
        note="; ".join(note for note in notes if note),
    )


class _EditFilter:
    """Whether the code files of a commit may be used, by their names: what no row may show of the head, no edit may."""

    def __init__(self, chain: FilterChain, context: RepositoryContext, languages: tuple[str, ...]) -> None:
        self._chain = chain
        self._context = context
        self._languages = languages
        self._known: dict[bytes, str] = {}

    def reason(self, commit: Commit) -> str:
        """Why the commit gives no edit; "" when nothing speaks against it."""
        return next((reason for change in commit.changes if (reason := self._of_path(change.path))), "")

    def _of_path(self, name: bytes) -> str:
        if name not in self._known:
            path = readable_path(name)
            self._known[name] = ""
            if path is not None and is_wanted(path, self._languages):
                verdict = self._chain.by_path(path, self._context.for_path(path))
                self._known[name] = f"touches a file that is left out: {verdict.reason}" if verdict.reason else ""
        return self._known[name]


def _write_commits(scratch: Path, history: History, edits: _EditFilter) -> None:
    with (
        ColumnFile(scratch / COMMITS_NAME, COMMIT_SCHEMA) as writer,
        ColumnFile(scratch / REJECTED_NAME, REJECTED_SCHEMA) as rejected,
    ):
        for name, reason in history.rejected:
            rejected.add(name, reason)
        for commit in history.candidates:
            reason = edits.reason(commit)
            if reason:
                rejected.add(commit.id, reason)
            else:
                changes = _packed(commit.changes)
                writer.add(commit.id, commit.time, commit.email, commit.name, commit.message, changes)


def _packed(changes: Iterable[Change]) -> bytes:
    """Changes as one value, because a list of records takes long to read; no path holds the byte between the fields."""
    return b"\0".join(
        field for one in changes for field in (one.path, one.status.encode(), one.before.encode(), one.after.encode())
    )


def _unpacked(packed: bytes) -> tuple[Change, ...]:
    fields = packed.split(b"\0") if packed else []
    return tuple(
        Change(path, status.decode(), before.decode(), after.decode())
        for path, status, before, after in zip(*(fields[first::4] for first in range(4)), strict=True)
    )


def _write_people(scratch: Path, people: People) -> None:
    with ColumnFile(scratch / PEOPLE_NAME, PEOPLE_SCHEMA) as writer:
        for name in people.names():
            writer.add(name, "")
        for email in people.emails():
            writer.add("", email)


def _write_changes(scratch: Path, history: History) -> None:
    with ColumnFile(scratch / CHANGES_NAME, CHANGES_SCHEMA) as writer:
        for path, others in co_changes(history.touched).items():
            for other, count in others.items():
                writer.add(path, other, count)
