"""What a reader should know first: sentences with a verdict each, drawn from the manifest and the survey."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from data_pipelines.report.survey import Survey
from finetune.contracts.dataset import DatasetManifest, ReasonCount, Slice, Split

# above this a model learns mostly one repository's habits
DOMINANT_SHARE = 0.6
NAMED = 3
LAST_SCAN = "the last scan found a secret"
SCAN_FAILED = "the scan for secrets failed"


class Level(StrEnum):
    """GOOD: as it should be. LOOK: a person should know it. BAD: the dataset lacks something it needs."""

    GOOD = "good"
    LOOK = "look"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence; anchor is the section that shows the evidence."""

    level: Level
    text: str
    anchor: str


def notes(manifest: DatasetManifest, survey: Survey) -> list[Note]:
    """All notes, the worst first."""
    found = [
        *_sources(manifest),
        *_dominance(manifest, survey),
        *_split(manifest),
        *_gate(manifest),
        *_redaction(manifest),
        *_tasks(manifest),
    ]
    order = [Level.BAD, Level.LOOK, Level.GOOD]
    return sorted(found, key=lambda note: order.index(note.level))


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 row", "2,000 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _sources(manifest: DatasetManifest) -> Iterator[Note]:
    total = len(manifest.sources)
    if total and all(source.state == "whole" for source in manifest.sources):
        every = "The one source was" if total == 1 else f"All {total:,} sources were"
        yield Note(Level.GOOD, f"{every} read whole.", "sources")
    for state, what in (("skipped", "skipped"), ("partial", "read in part")):
        if names := [source.repo for source in manifest.sources if source.state == state]:
            verb = "was" if len(names) == 1 else "were"
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            text = f"{len(names):,} of {plural(total, 'source')} {verb} {what}: {', '.join(names[:NAMED])}{more}."
            yield Note(Level.LOOK, text, "sources")


def _dominance(manifest: DatasetManifest, survey: Survey) -> Iterator[Note]:
    total = sum(lengths.total for lengths in survey.repos.values())
    if len(manifest.sources) < 2 or not total:
        return
    repo, most = max(survey.repos.items(), key=lambda item: (item[1].total, item[0]))
    if most.total / total > DOMINANT_SHARE:
        text = f"{100 * most.total / total:.0f} % of the learned text comes from one repository, {repo}."
        yield Note(Level.LOOK, text, "sources")


def _split(manifest: DatasetManifest) -> Iterator[Note]:
    train, heldout = (manifest.num_examples(split) for split in Split)
    if not heldout:
        yield Note(Level.BAD, "No row is held out: nothing that is learned from this dataset can be measured.", "split")
        return
    share = 100 * heldout / (train + heldout)
    how = "by commit time" if manifest.split.method == "time" else "by drawing whole clusters, not by time"
    level = Level.GOOD if manifest.split.method == "time" else Level.LOOK
    text = f"{plural(heldout, 'row')} ({share:.0f} %) held out, {how}"
    text += f": {manifest.split.note.rstrip('.')}." if manifest.split.note else "."
    yield Note(level, text, "split")


def _gate(manifest: DatasetManifest) -> Iterator[Note]:
    split = manifest.split
    taken = sum(row.count for row in split.leaked)
    if not split.novel and not taken:
        if manifest.num_examples(Split.HELDOUT):
            yield Note(
                Level.LOOK,
                "The held-out rows are not divided into novel and evolving: no leakage gate stands behind them.",
                "split",
            )
        return
    after = f" {plural(taken, 'row')} that did {'was' if taken == 1 else 'were'} taken out of novel." if taken else ""
    for row in split.leakage:
        if row.method.endswith(Slice.NOVEL) and row.near:
            yield Note(Level.BAD, f"{row.near:,} of {plural(row.heldout, 'novel item')} have a twin in train.", "split")
    if not split.novel:
        yield Note(Level.BAD, f"Leakage gate: no novel row is left.{after}", "split")
    else:
        yield Note(
            Level.GOOD,
            f"Leakage gate: 0 of {plural(split.novel, 'novel row')} show what train teaches.{after}",
            "split",
        )


def _redaction(manifest: DatasetManifest) -> Iterator[Note]:
    total = sum(row.count for row in manifest.redacted)
    if total:
        text = f"{total:,} secrets, addresses and names replaced, by {plural(len(manifest.redacted), 'rule')}."
        yield Note(Level.GOOD, text, "redaction")
    else:
        yield Note(Level.LOOK, "Nothing was redacted. Check that redaction was on: see the settings.", "settings")
    if stopped := _count(manifest.dropped, LAST_SCAN):
        yield Note(
            Level.LOOK, f"The last scan, over finished rows, stopped {plural(stopped, 'row')} with a secret.", "drops"
        )
    if failed := _count(manifest.dropped, SCAN_FAILED):
        yield Note(Level.LOOK, f"{plural(failed, 'text')} left out because the scan for secrets failed.", "drops")


def _tasks(manifest: DatasetManifest) -> Iterator[Note]:
    tasks = sorted({row.task for row in manifest.counts})
    for split, what in ((Split.TRAIN, "only measured"), (Split.HELDOUT, "learned but never measured")):
        empty = [task for task in tasks if not manifest.num_examples(split, task)]
        if empty and manifest.num_examples(split):
            yield Note(Level.LOOK, f"Tasks without a {split} row, so {what}: {', '.join(empty)}.", "rows")


def _count(rows: tuple[ReasonCount, ...], beginning: str) -> int:
    return sum(row.count for row in rows if row.reason.startswith(beginning))
