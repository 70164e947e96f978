"""Repositories to a dataset: survey, read, find twins, split, write, put together. Only what changed is done anew."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.canaries.canaries import Canaries, plant_canaries
from data_pipelines.config import PipelineConfig
from data_pipelines.dedup.minhash import SIGNATURE
from data_pipelines.engine.assemble import Assembled, assemble
from data_pipelines.engine.dividing import Division, check_files, divide, find_clusters
from data_pipelines.engine.ledger import Ledger
from data_pipelines.engine.reading import Reading, read_everything
from data_pipelines.engine.sourcing import Head, find_heads, survey_sources, without_forgotten
from data_pipelines.engine.store import Store
from data_pipelines.engine.work import Work, locked, own_key, recover, work_of
from data_pipelines.engine.writing import write_everything
from data_pipelines.lineage.forgetting import Forgotten, read_forgotten, write_forgotten
from data_pipelines.lineage.prune import drop_unused
from data_pipelines.mine.row import BUILDER
from data_pipelines.questions.questions import check_teacher
from data_pipelines.redact.key import key_name, redaction_key
from data_pipelines.redact.pack import default_pack
from data_pipelines.report.write import write_report
from data_pipelines.reviews.reviewing import digest_exports, find_reviews, read_fixes
from data_pipelines.sinks.parquet import DropLog, reason_counts
from data_pipelines.sinks.target import check_target, is_whole, read_manifest
from data_pipelines.split.assign import write_sticky
from data_pipelines.split.gate import Gate
from data_pipelines.split.sticky import Sticky
from finetune import __version__
from finetune.contracts.canaries import PLAN_KEY
from finetune.contracts.dataset import (
    MANIFEST_NAME,
    DatasetManifest,
    ReasonCount,
    Slice,
    Split,
    SplitRecord,
)
from finetune.contracts.errors import DatasetError, RepositoryError, UsageError
from finetune.contracts.io import digest_text, disk_errors, new_folder, write_json
from finetune.terminal.progress import Progress


def build_dataset(config: PipelineConfig, out: Path, *, data_folder: Path, progress: Progress) -> DatasetManifest:
    """Build a dataset in out, replacing one that is there only when all went well.

    data_folder keeps the key of a home and what earlier builds of this dataset found. Equal commits, settings,
    versions and keys give equal bytes, whatever was built before, but for what an earlier build of this dataset held
    out or forgot. A source that cannot be read is left out and told of.

    Raises RepositoryError when no source can be read or has anything to use, DatasetError when out is something else
    or when a side of the split would have no rows, MachineError when the disk is full or another build is at work.
    """
    if not config.sources:
        raise UsageError("No repository was named.", "Give --repo PATH, or list sources in the pipeline file.")
    check_target(out)
    heads = find_heads(config.named_sources())
    exports = digest_exports(config)
    work = work_of(data_folder, out)
    with locked(work), disk_errors(out):
        recover(out)
        work.note_place(out)
        key = redaction_key(config.redact, lambda: own_key(data_folder))
        forgotten = read_forgotten(out)
        heads = without_forgotten(heads, forgotten)
        canaries = plant_canaries(config, heads, work=work)
        given = _Given(key, forgotten, exports, canaries)
        heads = [*heads, canaries.head] if canaries else heads
        done = _unchanged(out, config, heads, settings=_settings(config, given))
        return done or _build(config, heads, given, out=out, work=work, progress=progress)


@dataclass(frozen=True, slots=True)
class _Given:
    """What is settled before anything is read, and has a part in the result; canaries None plants none."""

    key: bytes
    forgotten: Forgotten
    exports: Mapping[str, str]
    canaries: Canaries | None


def _unchanged(out: Path, config: PipelineConfig, heads: Sequence[Head], *, settings: str) -> DatasetManifest | None:
    """The manifest of what stands at out, when a build would give the same; a damaged dataset is built again."""
    try:
        manifest = read_manifest(out)
    except DatasetError:
        return None
    wanted = [(head.section.name, head.section.ref, head.commit) for head in heads]
    there = [(source.repo, source.ref, source.commit) for source in manifest.sources]
    same = wanted == there and settings == manifest.settings and manifest.builder == _builder()
    gone = {head.section.name for head in heads if head.forgotten}
    whole = all(source.state == "whole" or source.repo in gone for source in manifest.sources)
    return manifest if same and whole and is_whole(out, manifest) else None


def _build(
    config: PipelineConfig, heads: Sequence[Head], given: _Given, *, out: Path, work: Work, progress: Progress
) -> DatasetManifest:
    check_teacher(config, work)
    sticky = Sticky.read(out)
    surveyed = survey_sources(config, heads, work=work, progress=progress)
    sources = find_reviews(config, surveyed, exports=given.exports, work=work, progress=progress)
    with ExitStack() as stack:
        scratch = stack.enter_context(new_folder(out))
        store = stack.enter_context(Store(work.store))
        ledger = stack.enter_context(Ledger(work.ledger))
        dropped = stack.enter_context(DropLog(scratch))
        reading = Reading(
            config=config,
            sources=sources,
            work=work,
            store=store,
            ledger=ledger,
            dropped=dropped,
            key=given.key,
            forgotten=given.forgotten,
            progress=progress,
            planted=len(sources) - 1 if given.canaries else None,
        )
        read_everything(reading)
        read_fixes(reading)
        names = [source.section.name for source in sources]
        _check_sources(reading)
        find_clusters(ledger, store, config=config, table=work.folder / "bands.db")
        division = divide(ledger, dropped, config=config, sticky=sticky, names=names, planted=reading.planted)
        parts = write_everything(reading)
        weights = {source.section.name: source.section.weight for source in sources}
        made, gate = assemble(scratch, parts, dropped, budget=config.tasks.repository_budget, weights=weights)
        _check_sides(made, division)
        drop_unused(reading)
        write_sticky(scratch, division.plan, division.items)
        write_forgotten(scratch, given.forgotten)
        dropped.close()
        manifest = _manifest(reading, made=made, division=division, gate=gate, settings=_settings(config, given))
        write_json(scratch / MANIFEST_NAME, manifest)
        if given.canaries is not None:
            given.canaries.write(scratch, manifest.shards)
        write_report(scratch, survey=made.survey)
    found = [one for source in sources for one in (source.survey, source.reviews)]
    lasting = [one.folder.name for one in found if one and not one.facts.note]
    work.sweep(surveys=[*lasting, *reading.lasting], parts=[part.name for part in parts])
    return manifest


def _check_sources(reading: Reading) -> None:
    own = [source for number, source in enumerate(reading.sources) if number != reading.planted]
    where = ", ".join(str(source.section.path) for source in own)
    if not reading.ledger.num_files(but_of=reading.planted):
        languages = ", ".join(reading.config.languages)
        why = "; ".join(f"{row.count} {row.reason}" for row in _most(reading.dropped.counts()))
        raise RepositoryError(
            f"Nothing in {where} can be used: no file of {languages} passed the filters ({why or 'no files'}).",
            "Name a repository with such code, or relax `filters` in a pipeline file (docs/data.md).",
        )
    check_files(reading.ledger, reading.config, where=where, planted=reading.planted)


def _most(rows: Sequence[ReasonCount]) -> list[ReasonCount]:
    return sorted((row for row in rows if row.stage not in ("commit_edit", "review_fix")), key=lambda row: -row.count)[
        :3
    ]


def _check_sides(made: Assembled, division: Division) -> None:
    for side in Split:
        if not any(shard.split is side for shard in made.shards):
            raise DatasetError(
                f"The {side} side would have no rows: files are too few or too much alike"
                f" (split by {division.plan.method}).",
                "Add a repository with another --repo, or change `split` in a pipeline file (docs/data.md).",
            )


def _manifest(reading: Reading, *, made: Assembled, division: Division, gate: Gate, settings: str) -> DatasetManifest:
    shards = tuple(sorted(made.shards, key=lambda shard: shard.name))
    plan = division.plan
    leaked = reason_counts({("leakage", reason): count for reason, count in gate.leaked.items()})
    return DatasetManifest(
        content_digest=digest_text("\n".join(shard.sha256 for shard in shards)),
        builder=_builder(),
        sources=tuple(source.record(reading.notes.get(number, "")) for number, source in enumerate(reading.sources)),
        settings=settings,
        settings_digest=digest_text(settings),
        split=SplitRecord(
            method=plan.method,
            cutoff_at=plan.cutoff_at,
            train_files=division.num_train,
            heldout_files=division.num_heldout,
            purged=division.num_purged,
            note=plan.note,
            novel=made.slices[Slice.NOVEL],
            evolving=made.slices[Slice.EVOLVING],
            leaked=leaked,
            leakage=division.leakage,
        ),
        shards=shards,
        counts=made.counts(),
        dropped=reading.dropped.counts(),
        redacted=reason_counts(reading.hits),
    )


def _builder() -> str:
    return f"finetune {__version__} {BUILDER}"


def _settings(config: PipelineConfig, given: _Given) -> str:
    """The pipeline as canonical JSON; what names this machine, or says who did the work, is no part of the result."""
    named = config.model_copy(update={"sources": config.named_sources()})
    document = named.model_dump(mode="json", exclude={"run", "egress"})
    if config.tasks.qa.teacher is not None:
        # how the teacher is spoken to changes no answer
        for name in ("timeout_seconds", "key_variable", "allow_host"):
            del document["tasks"]["qa"]["teacher"][name]
    for source in document["sources"]:
        del source["path"]
        source["reviews"] = given.exports.get(source["name"])
    document["redact"]["key_file"] = config.redact.key_file is not None
    document["redact"]["key_name"] = key_name(given.key)
    pack = default_pack()
    document["rule_pack"] = {"version": pack.version, "digest": pack.digest}
    document["near_duplicates"] = SIGNATURE
    document["forgotten"] = given.forgotten.digest()
    if given.canaries is None:
        # the settings are what they were before there were canaries
        del document["canaries"]
    else:
        document[PLAN_KEY] = given.canaries.plan.digest()
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
