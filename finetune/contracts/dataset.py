"""Example, Provenance and DatasetManifest: the rows that data_pipelines writes and that training and evaluation read.

A dataset is a folder: manifest.json, Parquet shards named <split>-NNNNN.parquet whose columns are the fields of
Example (nested structs for segments and provenance), and dropped.parquet with the fields of DroppedFile.
"""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MANIFEST_NAME = "manifest.json"
DROPPED_NAME = "dropped.parquet"
REPORT_NAME = "report.html"


class Contract(BaseModel):
    """Base of every contract: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(StrEnum):
    """What a row teaches."""

    INFILL = "infill"
    DOCSTRING = "docstring"
    COMMIT_EDIT = "commit_edit"
    PRETRAIN = "pretrain"
    REPO_INFILL = "repo_infill"
    DESCRIBE = "describe"
    SEARCH_REPLACE = "search_replace"
    TESTS = "tests"
    REVIEW_FIX = "review_fix"
    QA = "qa"


# tasks whose rows have a prefix, a suffix and a target
INFILL_TASKS = frozenset({Task.INFILL, Task.REPO_INFILL})


class Role(StrEnum):
    """What a segment is to the model; sentinels and chat headers are added at render time, by family."""

    CONTEXT = "context"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    TARGET = "target"
    INSTRUCTION = "instruction"
    ANSWER = "answer"


class Split(StrEnum):
    """train is learned from; heldout is only ever evaluated on."""

    TRAIN = "train"
    HELDOUT = "heldout"


class Slice(StrEnum):
    """What a held-out row proves. novel: nothing like it is in train.

    evolving: newer work on what train has seen, or a row that shares tokens in a row, a function or a change with it.
    """

    NOVEL = "novel"
    EVOLVING = "evolving"


class Segment(Contract):
    """A piece of an example. loss says whether its tokens are learned; path is the file it came from, None if none.

    Role order by task: infill and repo_infill are [context...] prefix suffix target(loss); pretrain is target(loss)
    segments, whole files in an order in which imports come first; every other task is instruction context...
    answer(loss). docstring: signature and doc, to the function. describe: a function, to its doc. commit_edit and
    review_fix: message or review comment with the files before, to search/replace blocks. search_replace: a file with
    a gap, to the block that fills it. tests: a function's file, to tests for it. qa: a question, to an answer that
    cites path:first-last.
    """

    role: Role
    text: str
    path: str | None = None
    loss: bool = False


class Provenance(Contract):
    """Where text came from, exactly: lines are 1-based and inclusive; author is a keyed hash, never a name."""

    repo: str
    commit: str
    path: str
    blob: str
    first_line: int = Field(ge=1)
    last_line: int = Field(ge=1)
    author: str
    committed_at: int
    license: str | None = None


class Example(Contract):
    """One row. id is a digest of task, provenance, spans and builder version, so equal input gives equal ids.

    stratum tells the kind of span within a task (block, statement, call, line, random ...; "" if the task has none).
    cluster names the near-duplicate cluster of its file; a cluster lies in one split only. redactions counts
    placeholders inside the segments. visibility is the access group of the repository. slice is None in train.
    """

    id: str
    task: Task
    language: str
    stratum: str
    segments: tuple[Segment, ...]
    provenance: tuple[Provenance, ...]
    split: Split
    cluster: str
    redactions: int = Field(ge=0)
    visibility: str
    slice: Slice | None = None


class DroppedFile(Contract):
    """A file or commit that gave no row, the stage that left it out, and why. bytes is 0 where size is unknown.

    twin is "repo:path" of the near-duplicate that was kept in its place, "" for other reasons.
    """

    repo: str
    commit: str
    path: str
    stage: str
    reason: str
    bytes: int = Field(ge=0)
    twin: str = ""


class SourceRecord(Contract):
    """A repository as it was read: commit is the full id of the ref's head, "" for one that could not be opened.

    state says whether everything was read; note says what was not, and why. weight multiplies its token budget.
    """

    repo: str
    ref: str
    commit: str
    visibility: str
    commits: int = Field(ge=0)
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)
    state: Literal["whole", "partial", "skipped"] = "whole"
    note: str = ""
    weight: float = 1.0


class CountRow(Contract):
    """Examples and bytes of learned text for one task, split and language."""

    task: Task
    split: Split
    language: str
    examples: int = Field(ge=0)
    loss_bytes: int = Field(ge=0)


class ReasonCount(Contract):
    """How many files or rows a stage left out, or a rule redacted, for one reason."""

    stage: str
    reason: str
    count: int = Field(ge=0)


class LeakageRow(Contract):
    """What a way of splitting would leak here: of heldout items, near have a train item of Jaccard 0.7 or more.

    train counts the items that stay in train; all items are the files and edits of this dataset.
    """

    method: str
    train: int = Field(ge=0)
    heldout: int = Field(ge=0)
    near: int = Field(ge=0)


class SplitRecord(Contract):
    """How rows were divided.

    method "time": heldout is what was committed at or after cutoff_at (seconds since 1970, UTC). method "cluster": the
    history was too short for a cut in time, so whole clusters were drawn by hash, and cutoff_at is None. purged counts
    train files left out because a near-twin is held out. novel and evolving count held-out rows by slice; leaked counts
    the rows that the leakage gate took out of novel, by reason. leakage compares ways of splitting on this very data.
    """

    method: Literal["time", "cluster"]
    cutoff_at: int | None
    train_files: int = Field(ge=0)
    heldout_files: int = Field(ge=0)
    purged: int = Field(ge=0)
    note: str = ""
    novel: int = Field(default=0, ge=0)
    evolving: int = Field(default=0, ge=0)
    leaked: tuple[ReasonCount, ...] = ()
    leakage: tuple[LeakageRow, ...] = ()


class Shard(Contract):
    """A Parquet file of the dataset."""

    name: str
    split: Split
    examples: int = Field(ge=0)
    sha256: str


class DatasetManifest(Contract):
    """What a dataset is: digest over its shards, sources with commit ids, settings, counts, what was dropped and why.

    settings is the resolved pipeline file as canonical JSON text. content_digest is digest_text of the shard digests
    in name order, one per line, and identifies the dataset everywhere else.
    """

    schema_version: Literal[1, 2] = 2
    content_digest: str
    builder: str
    sources: tuple[SourceRecord, ...]
    settings: str
    settings_digest: str
    split: SplitRecord
    shards: tuple[Shard, ...]
    counts: tuple[CountRow, ...]
    dropped: tuple[ReasonCount, ...]
    redacted: tuple[ReasonCount, ...]

    def num_examples(self, split: Split | None = None, task: Task | None = None) -> int:
        """Rows of a split and task; None counts all."""
        return sum(row.examples for row in self.counts if split in (None, row.split) and task in (None, row.task))
