"""write_report: a dataset folder in, report.html in it."""

from pathlib import Path

from data_pipelines.report.drops import read_drops
from data_pipelines.report.page import render
from data_pipelines.report.survey import read_rows, survey_shards
from data_pipelines.sinks.target import read_manifest
from finetune.contracts.dataset import REPORT_NAME
from finetune.contracts.io import write_text
from finetune.terminal.progress import Progress


def write_report(folder: Path, *, progress: Progress | None = None) -> Path:
    """Write folder/report.html, replacing one that is there, and return its path.

    Equal datasets give equal bytes. progress advances by one for each shard; None shows nothing. Raises DatasetError
    for a folder that is no dataset or a damaged one, MachineError when the disk is full.
    """
    manifest = read_manifest(folder)
    survey = survey_shards(folder, manifest.shards, progress=progress)
    examples = {
        task: read_rows(folder, manifest.shards, places=survey.choice.of_task(task)) for task in sorted(survey.tasks)
    }
    target = folder / REPORT_NAME
    write_text(target, render(manifest, survey, read_drops(folder), examples=examples))
    return target
