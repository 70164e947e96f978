"""Review fixes in a build: found in each source's export, read in workers, and put into the ledger beside the edits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data_pipelines.config import PipelineConfig
from data_pipelines.document import Origin
from data_pipelines.engine.reading import (
    BANDS_BYTES,
    FORGOTTEN_STAGE,
    Reading,
    batches,
    count_hits,
    run_readers,
    still_holds,
)
from data_pipelines.engine.results import FileHead
from data_pipelines.engine.shown import shown_path
from data_pipelines.engine.sourcing import OpenSource
from data_pipelines.engine.store import Result, key_of
from data_pipelines.engine.survey import Survey
from data_pipelines.engine.work import Work
from data_pipelines.executors.run import Stage, run_stage
from data_pipelines.mine.review_fix import Fix
from data_pipelines.reviews.fix_head import FixHead
from data_pipelines.reviews.fix_reader import FixItem, FixItems
from data_pipelines.reviews.found_fixes import SETTINGS_NAME, FindSettings, FoundFixes, found_key, read_group
from data_pipelines.sources.forge.export import export_digest
from finetune.contracts.io import write_json
from finetune.terminal.progress import Progress

STAGE = "review_fix"
FIXES_PER_TASK = 50
# who left a file out for one of these says that it is not one's own code, or is not wanted
TELLING_STAGES = frozenset(
    {"paths", "language", "documentation", "generated", "minified", "data", "vendored", "license"}
)


def digest_exports(config: PipelineConfig) -> dict[str, str]:
    """The digest of each export by the name of its source; none when no review rows are wanted."""
    if not config.tasks.review_fix.enabled:
        return {}
    return {
        source.name: export_digest(source.reviews) for source in config.named_sources() if source.reviews is not None
    }


def find_reviews(
    config: PipelineConfig,
    sources: Sequence[OpenSource],
    *,
    exports: Mapping[str, str],
    work: Work,
    progress: Progress,
) -> list[OpenSource]:
    """The sources with what their exports hold, which is sought where it was not yet."""
    reviewed = [source for source in sources if source.survey is not None and source.section.name in exports]
    targets = tuple(work.surveys / _found_key(config, source, exports).hex() for source in reviewed)
    stage = Stage("data_pipelines.reviews.found_fixes:find_task", work.new_stage("reviews"), targets)
    if stage.missing():
        settings = FindSettings(
            config=config.without_sources(),
            sources=tuple(source.section for source in reviewed),
            commits=tuple(source.commit for source in reviewed),
        )
        write_json(stage.folder / SETTINGS_NAME, settings)
        run_stage(
            stage,
            config.run,
            tick=lambda number: progress.advance(1, f"reviews of {reviewed[number].section.name}"),
        )
    found = {source.section.name: FoundFixes(target) for source, target in zip(reviewed, targets, strict=True)}
    return [replace(source, reviews=found.get(source.section.name)) for source in sources]


def read_fixes(reading: Reading) -> None:
    """Fill the store and the ledger with the fixes; what is left out goes into the drop log."""
    reviewed = [
        (number, source.survey, source.reviews)
        for number, source in enumerate(reading.sources)
        if source.survey is not None and source.reviews is not None
    ]
    items = [item for number, _, found in reviewed for item in _missing(reading, number, found)]
    _run(reading, items)
    for number, survey, found in reviewed:
        _take(reading, number, survey=survey, found=found)


def _found_key(config: PipelineConfig, source: OpenSource, exports: Mapping[str, str]) -> bytes:
    return found_key(config, source.section, commit=source.commit, export=exports[source.section.name])


def _missing(reading: Reading, number: int, found: FoundFixes) -> Iterator[FixItem]:
    for batch in batches(group for group in found.groups() if not _forgotten(reading, number, read_group(group))):
        keys = [reading.fix_key(number, group) for group in batch]
        known = reading.store.heads(keys)
        for group, key in zip(batch, keys, strict=True):
            if not still_holds(known.get(key), reading.people_digest):
                marks = FixHead.model_validate_json(known[key].head).marks if key in known else None
                yield FixItem(source=number, key=key.hex(), group=group.decode(), marks=marks)


def _run(reading: Reading, items: Sequence[FixItem]) -> None:
    if not items:
        return
    folder = reading.work.new_stage("fixes")
    targets: list[Path] = []
    for first in range(0, len(items), FIXES_PER_TASK):
        batch = tuple(items[first : first + FIXES_PER_TASK])
        path = folder / f"task-{len(targets):05d}.json"
        path.write_text(FixItems(items=batch).model_dump_json(), encoding="utf-8")
        name = key_of(reading.people_digest, *(item.key for item in batch)).hex()
        targets.append(reading.work.packs / f"{name}.db")
    run_readers(reading, Stage("data_pipelines.reviews.fix_reader:fix_task", folder, tuple(targets)))


def _take(reading: Reading, number: int, *, survey: Survey, found: FoundFixes) -> None:
    name = reading.sources[number].section.name
    for reason, place in found.refused():
        shown = shown_path(reading.redactor, place)
        reading.dropped.add(name, commit="", path=shown, stage=STAGE, reason=reason)
    paths = {read_group(group)[0].change.path for group in found.groups()}
    left_out = _left_out(reading, number, survey, paths)
    for batch in batches(found.groups()):
        keys = [reading.fix_key(number, group) for group in batch]
        known = reading.store.heads(keys)
        for group, key in zip(batch, keys, strict=True):
            fixes = read_group(group)
            if reason := _forgotten(reading, number, fixes):
                reading.dropped.count(FORGOTTEN_STAGE, reason)
                continue
            reason = _take_one(reading, number, fixes, stored=known[key], left_out=left_out)
            if reason:
                shown = shown_path(reading.redactor, fixes[0].thread.place)
                reading.dropped.add(name, commit=fixes[0].commit.id, path=shown, stage=STAGE, reason=reason)


def _take_one(
    reading: Reading, number: int, fixes: Sequence[Fix], *, stored: Result, left_out: Mapping[bytes, str]
) -> str:
    """Put a fix into the ledger, or say why not."""
    head = FixHead.model_validate_json(stored.head)
    commit, path = fixes[0].commit, fixes[0].change.path
    if reason := head.reason or left_out.get(path, ""):
        return reason
    texts = (bytes.fromhex(head.before), bytes.fromhex(head.after))
    bands = (stored.bands[:BANDS_BYTES], stored.bands[BANDS_BYTES:])
    reading.ledger.add_edit(
        number,
        origin=Origin(commit.id, commit.time, reading.author(commit.email)),
        key=stored.key,
        head=key_of(stored.head),
        paths=[head.path],
        sides=zip(texts, bands, strict=True),
        kind="review",
    )
    count_hits(reading, head.hits)
    return ""


def _forgotten(reading: Reading, number: int, fixes: Sequence[Fix]) -> str:
    """Why a fix must not even be read, "" when it need not be left out."""
    return reading.forgets(number, [fixes[0].change.path], fixes[0].commit.email)


def _left_out(reading: Reading, number: int, survey: Survey, paths: set[bytes]) -> dict[bytes, str]:
    """For those of the paths whose file at the head is not one's own, or not wanted, why."""
    reasons: dict[bytes, str] = {}
    entries = (entry for entry in survey.entries() if entry.path in paths)
    for batch in batches(entries):
        keys = [reading.file_key(number, entry) for entry in batch]
        known = reading.store.heads(keys)
        for entry, key in zip(batch, keys, strict=True):
            head = FileHead.model_validate_json(known[key].head) if key in known else FileHead()
            stage, reason = (entry.stage, entry.reason) if entry.reason else (head.stage, head.reason)
            if stage in TELLING_STAGES:
                reasons[entry.path] = f"its file is left out: {reason}"
    return reasons
