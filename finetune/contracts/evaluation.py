"""EvaluationReport: what an evaluation found, suite by suite, and the rows that its figures can be computed from.

A report is a folder: report.json (EvaluationReport), rows.parquet (PairedRow), answers.parquet (Answer), and
report.html for people. Release reads it without knowing how anything was measured.
"""

from typing import Literal

from pydantic import Field

from finetune.contracts.adapter import BaseIdentity, FileDigest, Quantization, Score
from finetune.contracts.dataset import Contract, ReasonCount
from finetune.contracts.suite_name import SuiteName as SuiteName  # noqa: PLC0414

REPORT_NAME = "report.json"
ROWS_NAME = "rows.parquet"
ANSWERS_NAME = "answers.parquet"
PAGE_NAME = "report.html"


class PairedRow(Contract):
    """What base and adapter came to at one task by one metric.

    task_id is the same for the same task in each evaluation, so that any two can be paired. cluster names what is not
    independent within a repository: near-duplicate files, or the file. group is the kind of task or span, slice what
    training knew of it (novel, evolving, seen, or unknown where nobody said); "" if it has none. A figure is
    sum(base) / sum(size): size is bytes for bits per byte, 1 for a mean.
    """

    suite: SuiteName
    metric: str
    task_id: str
    repo: str = ""
    path: str = ""
    cluster: str = ""
    language: str = ""
    group: str = ""
    slice: str = ""
    base: float
    adapter: float
    size: float = Field(default=1.0, ge=0)


class Answer(Contract):
    """What was wanted at a task and what both models wrote; note says how it was judged, "" if the metrics say it."""

    suite: SuiteName
    task_id: str
    prompt: str = ""
    wanted: str = ""
    base: str = ""
    adapter: str = ""
    note: str = ""


class Finding(Contract):
    """A figure of the adapter alone, such as a share of canaries found: value with its 95 % interval and its limit.

    ok is None where the data do not allow to say: text says why. limit None: nothing is asked of it.
    """

    name: str
    unit: str = ""
    value: float
    low: float
    high: float
    num_items: int = Field(ge=0)
    limit: float | None = None
    ok: bool | None = None
    text: str = ""


class EngineRecord(Contract):
    """What ran the models. served: whether this is the engine and quantisation that serve; note says what differs."""

    name: str
    quantization: Quantization
    device: str
    dtype: str
    served: bool
    note: str = ""


class SuiteCost(Contract):
    """What a suite took. cached counts tasks whose result was there from an earlier evaluation."""

    base_seconds: float = Field(ge=0)
    adapter_seconds: float = Field(ge=0)
    base_cached: int = Field(default=0, ge=0)
    adapter_cached: int = Field(default=0, ge=0)


class SuiteReport(Contract):
    """One suite. reason says why it was not measured and what to do about it, "" if it was.

    tasks_digest identifies the tasks with all settings that decide their results. scores are paired, findings are not.
    left_out counts tasks that were passed over, by reason; broken ones are among them and never count as passed or
    failed.
    """

    suite: SuiteName
    reason: str = ""
    tasks_digest: str = ""
    num_tasks: int = Field(default=0, ge=0)
    scores: tuple[Score, ...] = ()
    findings: tuple[Finding, ...] = ()
    left_out: tuple[ReasonCount, ...] = ()
    cost: SuiteCost | None = None

    @property
    def measured(self) -> bool:
        return not self.reason


class EvaluationReport(Contract):
    """What an evaluation found. The first score of the first measured suite is the primary one: its verdict is this.

    adapter_digest is that of the adapter's weights. files names rows.parquet and answers.parquet with their digests.
    settings is the evaluate section as canonical JSON text; created_at is seconds since 1970, UTC.
    """

    schema_version: Literal[2] = 2
    adapter_id: str
    adapter_digest: str
    run_id: str
    base: BaseIdentity
    dataset_digest: str
    created_at: int
    settings: str
    max_tokens: int
    seed: int
    engine: EngineRecord
    suites: tuple[SuiteReport, ...] = Field(min_length=1)
    files: tuple[FileDigest, ...] = ()
    seal: str = ""

    @property
    def scores(self) -> tuple[Score, ...]:
        """The paired scores of all suites, the primary one first."""
        return tuple(score for suite in self.suites for score in suite.scores)

    @property
    def verdict(self) -> str:
        """better, not shown or worse, on the primary figure; "not shown" where no suite has a paired figure."""
        return self.scores[0].verdict if self.scores else "not shown"

    def suite(self, name: SuiteName) -> SuiteReport | None:
        """The report of one suite, None if it was not asked for."""
        return next((suite for suite in self.suites if suite.suite is name), None)
