"""Review threads of one source and the commits that answer them, found once per export and commit.

Like a survey this is a folder that never changes. It holds what people wrote, not redacted yet: nothing of it is shown
before review rows are made of it.
"""

from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, TypeAdapter

from data_pipelines.config import PipelineConfig, SourceSection
from data_pipelines.document import Commit
from data_pipelines.engine.store import key_of
from data_pipelines.mine.review_fix import Fix
from data_pipelines.mine.reviews import fixes_in
from data_pipelines.redact.people import People
from data_pipelines.sinks.columns import ColumnFile, read_columns
from data_pipelines.sources.forge.branches import branch_commits
from data_pipelines.sources.forge.records import Refused, ReviewThread
from data_pipelines.sources.git import Repository, open_repository
from finetune.contracts.errors import DatasetError, InputError
from finetune.contracts.io import new_folder, read_model, write_json

VERSION = 1
SETTINGS_NAME = "settings.json"
FACTS_NAME, FIXES_NAME, REFUSED_NAME, PEOPLE_NAME = "found.json", "fixes.parquet", "refused.parquet", "people.parquet"
FIXES_SCHEMA = pa.schema([("fixes", pa.binary())])
REFUSED_SCHEMA = pa.schema([("reason", pa.string()), ("place", pa.string())])
PEOPLE_SCHEMA = pa.schema([("name", pa.string()), ("email", pa.string())])
GROUP: TypeAdapter[tuple[Fix, ...]] = TypeAdapter(tuple[Fix, ...])


class FoundFacts(BaseModel):
    """note says why the export could not be read to its end, "" when it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    note: str = ""


class FindSettings(BaseModel):
    """What the stage needs: a source with reviews and its commit for each task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: PipelineConfig
    sources: tuple[SourceSection, ...]
    commits: tuple[str, ...]


class FoundFixes:
    """What was found, on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hint = f"Delete {folder}, then build again: it is only a cache."
        self.facts = read_model(folder / FACTS_NAME, FoundFacts, error=DatasetError, hint=hint)

    def groups(self) -> Iterator[bytes]:
        """The fixes of one commit in one file each, newest first; read_group reads one."""
        for (content,) in read_columns(self.folder / FIXES_NAME):
            yield content

    def refused(self) -> Iterator[tuple[str, str]]:
        """Reason and place of each record or thread that has no fix."""
        yield from read_columns(self.folder / REFUSED_NAME)

    def people(self) -> Iterator[tuple[str, str]]:
        """Names and addresses of reviewers and of those who wrote commits of branches; one may be ""."""
        yield from read_columns(self.folder / PEOPLE_NAME)


def read_group(content: bytes) -> tuple[Fix, ...]:
    """The fixes of one commit in one file."""
    return GROUP.validate_json(content)


def found_key(config: PipelineConfig, source: SourceSection, *, commit: str, export: str) -> bytes:
    """The name of what is found in an export with this digest over a source at a commit."""
    section = config.tasks.review_fix.model_dump_json(exclude={"enabled", "weight"})
    return key_of("reviews", VERSION, source.name, commit, export, section, config.filters_of(source).max_bytes)


def find_task(stage_folder: Path, number: int, target: Path) -> None:
    """Find the fixes of one source. An export that cannot be read leaves a note and what was read before."""
    settings = FindSettings.model_validate_json((stage_folder / SETTINGS_NAME).read_bytes())
    source = settings.sources[number]
    with (
        open_repository(source.path, name=source.name, ref=settings.commits[number]) as repository,
        new_folder(target) as scratch,
    ):
        _find(scratch, settings.config, source, repository=repository)


def _find(scratch: Path, config: PipelineConfig, source: SourceSection, *, repository: Repository) -> None:
    export, people, note = source.reviews, People(), ""
    assert export is not None, "only sources with reviews have a task"

    def commits(heads: Collection[str]) -> Iterable[Commit]:
        branches = branch_commits(repository.git_dir, heads, commit=repository.commit)
        return chain(repository.commits(), _met(branches, people))

    def meet(thread: ReviewThread) -> None:
        for comment in thread.comments:
            people.add_person(comment.author_key, "")

    read = partial(repository.content, max_bytes=config.filters_of(source).max_bytes)
    with (
        ColumnFile(scratch / FIXES_NAME, FIXES_SCHEMA) as fixes,
        ColumnFile(scratch / REFUSED_NAME, REFUSED_SCHEMA) as refused,
    ):
        try:
            for found in fixes_in(export, commits, read=read, section=config.tasks.review_fix, meet=meet):
                if isinstance(found, Refused):
                    refused.add(found.reason, found.place)
                else:
                    fixes.add(GROUP.dump_json(found))
        except InputError as error:
            # the place of the export is this machine's, and no part of the dataset
            note = f"its reviews cannot be used: {error.message.replace(str(export), 'the export')}"
    with ColumnFile(scratch / PEOPLE_NAME, PEOPLE_SCHEMA) as columns:
        for name in people.names():
            columns.add(name, "")
        for email in people.emails():
            columns.add("", email)
    write_json(scratch / FACTS_NAME, FoundFacts(note=note))


def _met(commits: Iterable[Commit], people: People) -> Iterator[Commit]:
    for commit in commits:
        people.add(commit)
        yield commit
