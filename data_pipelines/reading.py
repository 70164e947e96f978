"""What the first pass gathers over all repositories."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from data_pipelines.config import PipelineConfig
from data_pipelines.dedup.clusters import NearIndex
from data_pipelines.document import Commit, Document, Edit, Origin
from data_pipelines.redact.form import Form
from data_pipelines.redact.redactor import Redactor, ScanFailed
from data_pipelines.sinks.parquet import DropLog
from data_pipelines.spool import Spool
from finetune.contracts.dataset import SourceRecord

PATH_REASON = "the path holds a secret, or the name or address of a person"
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

    def redact(self, text: str, form: Form) -> str:
        """Redact a text that is kept, and count what was found. Raises ScanFailed."""
        done = self.redactor.redact(text, form)
        for rule, count in done.hits.items():
            self.hits["redact", rule] += count
        return done.text

    def path_reason(self, path: str) -> str:
        """Why a file must not be used because of its path; "" when nothing speaks against it."""
        try:
            return PATH_REASON if self.redactor.rules_that_hit(path, Form.PROSE) else ""
        except ScanFailed as failed:
            return str(failed)


def origin_of(commit: Commit, redactor: Redactor) -> Origin:
    """Provenance of a commit, the author as a keyed hash."""
    return Origin(commit.id, commit.time, redactor.author(commit.email))
