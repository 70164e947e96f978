"""write_report: a dataset folder in, report.html in it."""

from itertools import chain
from pathlib import Path

from data_pipelines.report.drops import read_drops
from data_pipelines.report.page import render
from data_pipelines.report.survey import Survey, read_rows, survey_shards
from data_pipelines.sinks.target import read_manifest
from finetune.contracts.dataset import REPORT_NAME
from finetune.contracts.io import write_text
from finetune.terminal.progress import Progress


def write_report(folder: Path, *, survey: Survey | None = None, progress: Progress | None = None) -> Path:
    """Write folder/report.html, replacing one that is there, and return its path.

    survey is what a build knows of its rows; None reads the shards for it. Equal datasets give equal bytes. progress
    advances by one for each shard that is read; None shows nothing. Raises DatasetError for a folder that is no
    dataset or a damaged one, MachineError when the disk is full.
    """
    manifest = read_manifest(folder)
    survey = survey or survey_shards(folder, manifest.shards, progress=progress)
    places = {task: survey.choice.of_task(task) for task in sorted(survey.tasks)}
    rows = read_rows(folder, chain.from_iterable(places.values()))
    examples = {task: [rows[place] for place in chosen] for task, chosen in places.items()}
    target = folder / REPORT_NAME
    write_text(target, render(manifest, survey, read_drops(folder), examples=examples))
    return target
