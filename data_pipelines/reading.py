"""What the first pass gathers over all repositories."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from data_pipelines.config import PipelineConfig
from data_pipelines.dedup.clusters import NearIndex
from data_pipelines.document import Commit, Document, Edit, Origin
from data_pipelines.redact.redactor import Redactor
from data_pipelines.sinks.parquet import DropLog
from data_pipelines.spool import Spool
from finetune.contracts.dataset import SourceRecord

Tick = Callable[[str], None]


@dataclass
class Reading:
    """What all repositories gave together; hits counts redactions by rule."""

    spool: Spool
    index: NearIndex
    dropped: DropLog
    redactor: Redactor
    config: PipelineConfig
    documents: list[Document] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    sources: list[SourceRecord] = field(default_factory=list)
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)

    def redact(self, text: str) -> str:
        """Redact a text that is kept, and count what was found."""
        done = self.redactor.redact(text)
        for rule, count in done.hits.items():
            self.hits["redact", rule] += count
        return done.text


def origin_of(commit: Commit, redactor: Redactor) -> Origin:
    """Provenance of a commit, the author as a keyed hash."""
    return Origin(commit.id, commit.time, redactor.author(commit.email))
