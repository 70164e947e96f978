"""What the stage that reads is given, and what it finds: the records that pass between parent, workers and store."""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict

from data_pipelines.config import PipelineConfig, SourceSection
from data_pipelines.dedup.minhash import SIGNATURE
from data_pipelines.engine.store import key_of
from data_pipelines.redact.key import key_name
from data_pipelines.redact.pack import default_pack
from data_pipelines.redact.people import People

VERSION = 1
# the digest of the dictionary under which a result holds whose text no dictionary can change
ANY_PEOPLE = b""


class Model(BaseModel):
    """Base of what is passed to workers."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileItem(Model):
    """A file to read; place as in survey.Entry. marks: what an earlier dictionary found, None when never read."""

    kind: Literal["file"] = "file"
    source: int
    key: str
    path: str
    blob: str
    place: str
    marks: str | None = None


class EditItem(Model):
    """A commit to read; paths of changes are UTF-8, or the commit would have been rejected. marks as in FileItem."""

    kind: Literal["edit"] = "edit"
    source: int
    key: str
    commit: str
    message: str
    changes: tuple[tuple[str, str, str], ...]
    """Path, blob before, blob after."""
    marks: str | None = None


class Items(Model):
    """One task."""

    items: tuple[FileItem | EditItem, ...]


class ReadSettings(Model):
    """What every task of the stage needs; commits are by source."""

    config: PipelineConfig
    sources: tuple[SourceSection, ...]
    commits: tuple[str, ...]
    key: str


class PeopleList(Model):
    """The dictionary of persons."""

    names: tuple[str, ...]
    emails: tuple[str, ...]

    def people(self) -> People:
        made = People()
        made.extend(self.names, self.emails)
        return made


def people_list(people: People) -> PeopleList:
    """A dictionary as it is passed to workers."""
    return PeopleList(names=tuple(people.names()), emails=tuple(people.emails()))


class FileHead(Model):
    """What is known of a file: why it is left out, or its language, licence and redacted text."""

    stage: str = ""
    reason: str = ""
    language: str = ""
    license: str | None = None
    text: str = ""
    bytes: int = 0
    hits: dict[str, int] = {}
    marks: str = ""
    path_hit: bool = False
    """The path itself must not be shown."""


class EditSide(Model):
    """A file of an edit: digests of its redacted texts, the blob after, and how long that is."""

    path: str
    before: str
    after: str
    after_blob: str
    num_lines_after: int


class EditHead(Model):
    """What is known of a commit: why it is left out, or its message, answer and files."""

    reason: str = ""
    language: str = ""
    message: str = ""
    requests: tuple[str, ...] = ()
    """What the message as it was written calls the change: see split.leakage."""
    answer: str = ""
    files: tuple[EditSide, ...] = ()
    hits: dict[str, int] = {}
    marks: str = ""


def settings_key(config: PipelineConfig, source: SourceSection, key: bytes) -> bytes:
    """What of the settings can change a result of a file or a commit; part of the key of each."""
    pack = default_pack()
    # reviews and questions have no part in these results
    tasks = config.tasks.model_dump(mode="json", exclude={"review_fix", "qa"})
    return key_of(
        VERSION,
        SIGNATURE,
        pack.digest,
        key_name(key),
        json.dumps(tasks, sort_keys=True),
        config.languages,
        config.other_languages,
        config.filters.model_dump_json(),
        config.redact.model_dump_json(exclude={"key_file"}),
        config.seed,
        source.model_dump_json(exclude={"path", "name", "ref", "weight", "visibility", "reviews"}),
    )
