"""Tables of the page: sources, tasks, languages, the way of the files through the stages, reasons, clusters."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from markupsafe import Markup

from data_pipelines.report.drops import Dropped, Drops
from data_pipelines.report.survey import Survey
from data_pipelines.report.text import name
from finetune.contracts.dataset import DatasetManifest, ReasonCount, SourceRecord, Split

MAX_SOURCES = 150
# the worst first
STATES = ("skipped", "partial", "whole")
MAX_REASONS = 40
MAX_LANGUAGES = 30
MAX_CLUSTERS = 15
MAX_NAMED = 12
LATER_STAGES = (
    ("redact", "Redaction failed, or broke the file"),
    ("dedup", "A twin was kept instead"),
    ("split", "Left out by the split: a twin is on the other side"),
)
Samples: TypeAlias = Mapping[tuple[str, str], Sequence[Dropped]]
NO_SAMPLES: Samples = {}


@dataclass(frozen=True, slots=True)
class Capped:
    """The rows of a table that are shown, and how many there are in all."""

    shown: tuple[object, ...]
    total: int

    @property
    def hidden(self) -> int:
        """Rows that are not shown."""
        return self.total - len(self.shown)


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A source with what became of it."""

    record: SourceRecord
    repo: Markup
    ref: Markup
    note: Markup
    visibility: Markup
    rows: int
    learned: int


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One task. sides counts its rows by side, learned is in bytes."""

    task: str
    rows: int
    sides: Mapping[str, int]
    learned: int
    strata: tuple[tuple[Markup, int], ...]


@dataclass(frozen=True, slots=True)
class LanguageLine:
    """One language: rows by task in the order of the table, and its learned bytes."""

    language: Markup
    cells: tuple[int, ...]
    rows: int
    heldout: int
    learned: int


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """What a stage leaves: files that remain after it, and those it took."""

    label: str
    left: int
    taken: int


@dataclass(frozen=True, slots=True)
class ReasonLine:
    """One reason with a sample of what it took."""

    stage: str
    reason: Markup
    count: int
    samples: tuple[tuple[Markup, Markup, str, int], ...]


@dataclass(frozen=True, slots=True)
class ClusterLine:
    """A file that was kept, and those it stands for."""

    kept: Markup
    num_files: int
    num_bytes: int
    members: tuple[Markup, ...]


def sources(manifest: DatasetManifest, survey: Survey) -> Capped:
    """Sources that were not read whole first, then by what they teach."""
    lines = [
        SourceLine(
            record=row,
            repo=name(row.repo),
            ref=name(row.ref),
            note=name(row.note),
            visibility=name(row.visibility),
            rows=survey.repos[row.repo].num_rows if row.repo in survey.repos else 0,
            learned=survey.repos[row.repo].total if row.repo in survey.repos else 0,
        )
        for row in manifest.sources
    ]
    lines.sort(key=lambda line: (STATES.index(line.record.state), -line.learned, line.record.repo))
    return Capped(tuple(lines[:MAX_SOURCES]), len(lines))


def tasks(survey: Survey) -> tuple[TaskLine, ...]:
    """Tasks by their learned bytes."""
    lines = [
        TaskLine(
            task=task,
            rows=found.learned.num_rows,
            sides=found.sides,
            learned=found.learned.total,
            strata=tuple(named(found.strata)) if set(found.strata) != {""} else (),
        )
        for task, found in survey.tasks.items()
    ]
    return tuple(sorted(lines, key=lambda line: (-line.learned, line.task)))


def languages(manifest: DatasetManifest, task_names: Sequence[str]) -> Capped:
    """Languages by their learned bytes, with a cell for each task."""
    cells: dict[str, Counter[str]] = defaultdict(Counter)
    learned: Counter[str] = Counter()
    heldout: Counter[str] = Counter()
    for row in manifest.counts:
        cells[row.language][row.task] += row.examples
        learned[row.language] += row.loss_bytes
        heldout[row.language] += row.examples if row.split is Split.HELDOUT else 0
    lines = [
        LanguageLine(
            language=name(language),
            cells=tuple(cells[language][task] for task in task_names),
            rows=sum(cells[language].values()),
            heldout=heldout[language],
            learned=learned[language],
        )
        for language in sorted(cells, key=lambda key: (-learned[key], key))
    ]
    return Capped(tuple(lines[:MAX_LANGUAGES]), len(lines))


def funnel(manifest: DatasetManifest, file_reasons: Sequence[ReasonCount]) -> tuple[FunnelStep, ...]:
    """From the files of the trees to those that rows were made of; what does not add up has a step of its own."""
    taken: Counter[str] = Counter()
    for row in file_reasons:
        taken[row.stage] += row.count
    left = sum(source.files for source in manifest.sources)
    kept = manifest.split.train_files + manifest.split.heldout_files
    steps = [FunnelStep("Files in the trees that were read", left, 0)]
    later = [stage for stage, _ in LATER_STAGES]
    early = sum(count for stage, count in taken.items() if stage not in later)
    for label, count in [("Filters", early), *((label, taken[stage]) for stage, label in LATER_STAGES)]:
        left -= count
        steps.append(FunnelStep(label, left, count))
    if left != kept:
        steps.append(FunnelStep("Other reasons, or counted under two", kept, left - kept))
    return (*steps, FunnelStep("Files that rows were made of", kept, 0))


def reasons(rows: Sequence[ReasonCount], samples: Samples = NO_SAMPLES) -> Capped:
    """Reasons by count, each with its samples."""
    ordered = sorted(rows, key=lambda row: (-row.count, row.stage, row.reason))
    lines = [
        ReasonLine(
            stage=row.stage,
            reason=name(row.reason),
            count=row.count,
            samples=tuple(map(_sample, samples.get((row.stage, row.reason), ()))),
        )
        for row in ordered[:MAX_REASONS]
    ]
    return Capped(tuple(lines), len(ordered))


def clusters(drops: Drops) -> Capped:
    """The largest clusters first."""
    ordered = sorted(drops.clusters.items(), key=lambda item: (-item[1].num_files, item[0]))
    lines = [
        ClusterLine(name(kept), cluster.num_files, cluster.num_bytes, tuple(map(name, cluster.members)))
        for kept, cluster in ordered[:MAX_CLUSTERS]
    ]
    return Capped(tuple(lines), len(ordered))


def named(counts: Mapping[str, int], *, nameless: str = "none") -> list[tuple[Markup, int]]:
    """Names by count; from MAX_NAMED on they are one line, "N others"."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [(name(key or nameless), count) for key, count in ordered[:MAX_NAMED]]
    rest = ordered[MAX_NAMED:]
    return [*shown, (name(f"{len(rest):,} others"), sum(count for _, count in rest))] if rest else shown


def _sample(item: Dropped) -> tuple[Markup, Markup, str, int]:
    return name(item.repo), name(item.path), item.commit[:12], item.bytes
