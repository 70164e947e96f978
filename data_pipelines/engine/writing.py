"""The second half of a build: the rows of every repository, in parts that are written once."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from shutil import rmtree

from data_pipelines.engine.ledger import EditKind, Ledger
from data_pipelines.engine.reading import Reading
from data_pipelines.engine.results import people_list
from data_pipelines.engine.store import key_of
from data_pipelines.engine.survey import CHANGES_NAME
from data_pipelines.engine.work import write_private
from data_pipelines.engine.writer import (
    EDIT_SCHEMA,
    FILE_SCHEMA,
    PART_NAME,
    PEOPLE_NAME,
    SETTINGS_NAME,
    VERSION,
    Part,
    PartTask,
    WriteSettings,
)
from data_pipelines.executors.run import Stage, run_stage
from data_pipelines.mine.row import BUILDER
from data_pipelines.questions.questions import ask_everything
from data_pipelines.redact.key import key_name
from data_pipelines.sinks.columns import ColumnFile
from finetune.contracts.errors import DatasetError
from finetune.contracts.io import digest_file, read_model, to_json

PART_BYTES = 6 << 20
PACK_BYTES = 24 << 20
EDITS_PER_PART = 200


def write_everything(reading: Reading) -> list[Path]:
    """Write the parts of all sources that are not there yet; their folders in the order of the dataset."""
    folder = reading.work.new_stage("write")
    names = reading.ledger.cluster_names()
    targets: list[Path] = []
    for number, _ in reading.surveys():
        for task, key in _tasks(reading, number, folder=folder, clusters=names):
            (folder / f"task-{len(targets):05d}.json").write_text(task.model_dump_json(), encoding="utf-8")
            targets.append(reading.work.parts / key.hex())
    _discard_damaged(targets)
    settings = WriteSettings(
        config=reading.config.without_sources(),
        names=tuple(source.section.name for source in reading.sources),
        visibilities=tuple(source.section.visibility for source in reading.sources),
        surveys=tuple(source.survey.folder if source.survey else None for source in reading.sources),
        store=reading.work.store,
        key=reading.key.hex(),
    )
    write_private(folder / SETTINGS_NAME, to_json(settings))
    write_private(folder / PEOPLE_NAME, to_json(people_list(reading.people)))
    stage = Stage("data_pipelines.engine.writer:write_task", folder, tuple(targets))
    reading.progress.total = reading.progress.done + len(stage.missing())
    run_stage(stage, reading.config.run, tick=lambda _: reading.progress.advance(1, "writing"))
    return [*targets, *ask_everything(reading, folder)]


def read_part(folder: Path) -> Part:
    """What a part holds. Raises DatasetError when its record is damaged."""
    hint = f"Delete {folder}, then build again: it is only a cache."
    return read_model(folder / PART_NAME, Part, error=DatasetError, hint=hint)


def _tasks(
    reading: Reading, number: int, *, folder: Path, clusters: Mapping[int, str]
) -> Iterator[tuple[PartTask, bytes]]:
    """The tasks of one source with the keys of their results: everything that a row of it can show is in the key.

    A row of a file may show any other file of the source; one of an edit shows nothing but that edit.
    """
    base = key_of(VERSION, BUILDER, _settings(reading, number))
    survey = reading.sources[number].survey
    assert survey is not None
    table, sizes = _write_files(reading.ledger, number, folder / f"files-{number:05d}.parquet", clusters)
    files = key_of(base, table, digest_file(survey.folder / CHANGES_NAME))
    for first, last in _cut(sizes, PART_BYTES):
        yield PartTask(kind="files", source=number, first=first, last=last), key_of(files, "files", first, last)
    yield from _edit_tasks(reading, number, base=base, folder=folder, clusters=clusters)
    if reading.sources[number].reviews is not None:
        yield from _edit_tasks(reading, number, base=base, folder=folder, clusters=clusters, kind="review")
    num_shares = -(-sum(sizes) // PACK_BYTES) if reading.config.tasks.pretrain.enabled else 0
    for share in range(num_shares):
        task = PartTask(kind="packs", source=number, first=share, last=num_shares)
        yield task, key_of(files, "packs", share, num_shares)


def _edit_tasks(
    reading: Reading,
    number: int,
    *,
    base: bytes,
    folder: Path,
    clusters: Mapping[int, str],
    kind: EditKind = "edit",
) -> Iterator[tuple[PartTask, bytes]]:
    first = 0
    path = folder / f"{kind}s-{number:05d}.parquet"
    for digest, size in _write_edits(reading, number, path, clusters, kind=kind):
        task = PartTask(kind="edits" if kind == "edit" else "reviews", source=number, first=first, last=first + size)
        yield task, key_of(base, digest, task.kind)
        first += size


def _settings(reading: Reading, number: int) -> str:
    section = reading.sources[number].section
    # questions are no part of these parts
    tasks = reading.config.tasks.model_dump_json(exclude={"qa"})
    redact = reading.config.redact.model_dump_json(exclude={"key_file"})
    return "\n".join([section.name, section.visibility, tasks, redact, key_name(reading.key)])


def _write_files(ledger: Ledger, number: int, path: Path, clusters: Mapping[int, str]) -> tuple[str, list[int]]:
    sizes = []
    with ColumnFile(path, FILE_SCHEMA) as columns:
        for file in ledger.files(number):
            sizes.append(file.bytes)
            columns.add(
                file.path,
                file.blob,
                file.language,
                file.license,
                file.origin.commit,
                file.origin.time,
                file.origin.author,
                file.key,
                file.text,
                file.bytes,
                clusters[file.cluster],
                file.split,
                file.slice,
                file.kept,
            )
    return digest_file(path), sizes


def _write_edits(
    reading: Reading, number: int, path: Path, clusters: Mapping[int, str], *, kind: EditKind
) -> list[tuple[bytes, int]]:
    """Write the table of edits; for each part in it a digest of its rows, and how many these are."""
    parts = []
    survey = reading.sources[number].survey
    license_name = survey.facts.license if survey else None
    placed = (edit for edit in reading.ledger.edits(number, kind=kind) if edit.split is not None)
    with ColumnFile(path, EDIT_SCHEMA) as columns:
        while edits := list(islice(placed, EDITS_PER_PART)):
            state = sha256()
            for edit in edits:
                row = (
                    edit.origin.commit,
                    edit.origin.time,
                    edit.origin.author,
                    edit.key,
                    edit.head,
                    clusters[edit.clusters[0]],
                    edit.split,
                    edit.slice,
                    license_name,
                )
                columns.add(*row)
                state.update(repr(row).encode("utf-8", "backslashreplace"))
            parts.append((state.digest(), len(edits)))
    return parts


def _cut(sizes: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    first, total = 0, 0
    for place, size in enumerate(sizes):
        if total and total + size > limit:
            yield first, place
            first, total = place, 0
        total += size
    if sizes:
        yield first, len(sizes)


def _discard_damaged(targets: Sequence[Path]) -> None:
    """A part whose files are not those of its record is written again."""
    for target in targets:
        if target.is_dir() and not _is_whole(target):
            rmtree(target)


def _is_whole(folder: Path) -> bool:
    try:
        part = read_part(folder)
        return all(digest_file(folder / file.name) == file.sha256 for file in part.files)
    except (DatasetError, OSError):
        return False
