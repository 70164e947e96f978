"""Repositories to a dataset, in two passes: read (filter, redact, index) and, after the split, mine."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.config import PipelineConfig, SourceSection
from data_pipelines.dedup.clusters import NearIndex
from data_pipelines.dedup.minhash import SIGNATURE
from data_pipelines.document import TreeEntry
from data_pipelines.edits import EditReader
from data_pipelines.files import TreeReader
from data_pipelines.history import History, read_history
from data_pipelines.mine.row import BUILDER
from data_pipelines.reading import Reading, Tick
from data_pipelines.redact.key import redaction_key
from data_pipelines.redact.pack import default_pack
from data_pipelines.redact.people import People
from data_pipelines.redact.redactor import Redactor
from data_pipelines.rows import RowWriter, Sides, divide, edit_items, file_item
from data_pipelines.sinks.parquet import DropLog, ShardSink, reason_counts
from data_pipelines.sinks.target import check_target
from data_pipelines.sources.git import Repository, open_repository
from data_pipelines.split.assign import SplitPlan, plan_split
from data_pipelines.spool import Spool
from finetune import __version__
from finetune.contracts.dataset import (
    MANIFEST_NAME,
    DatasetManifest,
    ReasonCount,
    Shard,
    SourceRecord,
    Split,
    SplitRecord,
)
from finetune.contracts.errors import DatasetError, RepositoryError, UsageError
from finetune.contracts.io import digest_text, disk_errors, new_folder, write_json
from finetune.terminal.progress import Progress

SPOOL_NAME = ".spool"


@dataclass(frozen=True, slots=True)
class _Source:
    section: SourceSection
    repository: Repository
    entries: list[TreeEntry]


def build_dataset(config: PipelineConfig, out: Path, *, progress: Progress) -> DatasetManifest:
    """Build a dataset in out, replacing one that is there only when all went well.

    Equal commits, settings and versions give equal bytes. Raises RepositoryError for a source that cannot be read or
    has nothing to use, DatasetError when out is something else or when a side of the split would have no rows,
    MachineError when the disk is full.
    """
    if not config.sources:
        raise UsageError("No repository was named.", "Give --repo PATH, or list sources in the pipeline file.")
    check_target(out)
    with ExitStack() as stack:
        sources = [_open(stack, section) for section in config.named_sources()]
        scratch = stack.enter_context(new_folder(out))
        stack.enter_context(disk_errors(out))
        manifest = _build(config, sources, scratch=scratch, progress=progress)
        write_json(scratch / MANIFEST_NAME, manifest)
    return manifest


def _open(stack: ExitStack, section: SourceSection) -> _Source:
    repository = stack.enter_context(open_repository(section.path, name=section.name, ref=section.ref))
    return _Source(section, repository, repository.entries())


def _build(config: PipelineConfig, sources: Sequence[_Source], *, scratch: Path, progress: Progress) -> DatasetManifest:
    key = redaction_key(config.redact, [source.repository.head_object() for source in sources])
    people = People()
    progress.total = 2 * sum(len(source.entries) for source in sources)
    # every history comes before the first file: an author of one repository is named in the files of another
    histories = [_history(config, source, people=people, tick=_ticker(progress)) for source in sources]
    with Spool(scratch / SPOOL_NAME) as spool, DropLog(scratch) as dropped:
        index = NearIndex(spool, threshold=config.dedup.jaccard if config.dedup.near else 1.0)
        redactor = Redactor(config.redact, key, people=people)
        reading = Reading(spool=spool, index=index, dropped=dropped, redactor=redactor, config=config)
        _read(reading, sources, histories=histories, progress=progress)
        _check_files(reading, sources)
        clusters = index.clusters()
        plan = _plan(reading, clusters)
        sides = divide(reading, plan, clusters)
        progress.total = progress.done + sum(map(len, sides.documents.values()))
        with ShardSink(scratch) as sink:
            RowWriter(reading, clusters, sink).write(sides, _ticker(progress))
            shards = sink.finish()
        _check_sides(shards, plan)
        return _manifest(reading, shards=shards, sink=sink, split=_split_record(plan, sides))


def _history(config: PipelineConfig, source: _Source, *, people: People, tick: Tick) -> History:
    tick(f"{source.section.name} history")
    return read_history(
        source.repository,
        source.entries,
        section=config.tasks.commit_edit,
        languages=config.languages,
        people=people,
    )


def _read(reading: Reading, sources: Sequence[_Source], *, histories: Sequence[History], progress: Progress) -> None:
    tick = _ticker(progress)
    progress.total = (progress.total or 0) + sum(len(history.candidates) for history in histories)
    for source, history in zip(sources, histories, strict=True):
        files = TreeReader(source.repository, source.section, entries=source.entries, history=history, reading=reading)
        files.read(tick)
        if reading.config.tasks.commit_edit.enabled:
            edits = EditReader(source.repository, source.section, reading=reading)
            edits.read(history, files.licenses.get(""), tick)
        reading.sources.append(
            SourceRecord(
                repo=source.section.name,
                ref=source.section.ref,
                commit=source.repository.commit,
                visibility=source.section.visibility,
                commits=history.num_commits,
                files=len(source.entries),
                bytes=sum(max(0, entry.bytes) for entry in source.entries),
            )
        )


def _ticker(progress: Progress) -> Tick:
    def tick(detail: str) -> None:
        progress.advance(1, detail)

    return tick


def _check_files(reading: Reading, sources: Sequence[_Source]) -> None:
    names = ", ".join(str(source.section.path) for source in sources)
    languages = ", ".join(reading.config.languages)
    why = "; ".join(f"{row.count} {row.reason}" for row in _most(reading))
    if not reading.documents:
        raise RepositoryError(
            f"Nothing in {names} can be used: no file of {languages} passed the filters ({why or 'no files'}).",
            "Name a repository with such code, or relax `filters` in a pipeline file (docs/data.md).",
        )
    least = reading.config.split.min_files
    if len(reading.documents) < least:
        raise DatasetError(
            f"{names} gives {len(reading.documents)} files that can be used; {least} are the least for a split.",
            "Add a repository with another --repo, or lower split.min_files in a pipeline file (docs/data.md).",
        )


def _most(reading: Reading) -> list[ReasonCount]:
    return sorted((row for row in reading.dropped.counts() if row.stage != "commit_edit"), key=lambda row: -row.count)[
        :3
    ]


def _plan(reading: Reading, clusters: list[int]) -> SplitPlan:
    files = [file_item(document, clusters) for document in reading.documents]
    # rows have no slice yet, so all that is held out must be novel
    section = reading.config.split.model_copy(update={"novel_share": 1.0, "max_purged_share": 1.0})
    return plan_split(files, edit_items(reading, clusters), section=section, seed=reading.config.seed)


def _check_sides(shards: Sequence[Shard], plan: SplitPlan) -> None:
    for side in Split:
        if not any(shard.split is side for shard in shards):
            raise DatasetError(
                f"The {side} side would have no rows: files are too few or too much alike (split by {plan.method}).",
                "Add a repository with another --repo, or change `split` in a pipeline file (docs/data.md).",
            )


def _split_record(plan: SplitPlan, sides: Sides) -> SplitRecord:
    return SplitRecord(
        method=plan.method,
        cutoff_at=plan.cutoff_at,
        train_files=len(sides.documents[Split.TRAIN]),
        heldout_files=len(sides.documents[Split.HELDOUT]),
        purged=sides.purged,
        note=plan.note,
    )


def _manifest(reading: Reading, *, shards: tuple[Shard, ...], sink: ShardSink, split: SplitRecord) -> DatasetManifest:
    settings = _settings(reading.config)
    return DatasetManifest(
        content_digest=digest_text("\n".join(shard.sha256 for shard in shards)),
        builder=f"finetune {__version__} {BUILDER}",
        sources=tuple(reading.sources),
        settings=settings,
        settings_digest=digest_text(settings),
        split=split,
        shards=shards,
        counts=sink.counts(),
        dropped=reading.dropped.counts(),
        redacted=reason_counts(reading.hits),
    )


def _settings(config: PipelineConfig) -> str:
    """The pipeline as canonical JSON; folders of this machine are left out, because they are no part of the result."""
    document = config.model_copy(update={"sources": config.named_sources()}).model_dump(mode="json")
    for source in document["sources"]:
        del source["path"]
    document["redact"]["key_file"] = config.redact.key_file is not None
    pack = default_pack()
    document["rule_pack"] = {"version": pack.version, "digest": pack.digest}
    document["near_duplicates"] = SIGNATURE
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
