"""The page: what the template shows, put together and rendered."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data_pipelines.report import figures
from data_pipelines.report.charts import histogram, size, timeline
from data_pipelines.report.drops import Drops, divided
from data_pipelines.report.examples import card
from data_pipelines.report.lengths import shared_range
from data_pipelines.report.notes import notes
from data_pipelines.report.survey import NO_MONTH, SIDES, Survey, month
from data_pipelines.report.text import excerpt, harmless, name
from finetune.contracts.dataset import DatasetManifest, Example, Split, Task
from finetune.pages.style import page_policy, page_style

HERE = Path(__file__).parent
TEMPLATE = "report.html"
STYLE = "style.css"
MAX_TITLE_NAMES = 4
# what a row of each task asks of the model, in the words of a reader who has never seen one
MEANINGS = {
    Task.INFILL: "Given the text before and after a gap, and sometimes files that are imported, write the gap.",
    Task.REPO_INFILL: "Given related files of the repository and the text around a gap, write the gap.",
    Task.DOCSTRING: "Given the signature and the documentation of a function, write the function.",
    Task.DESCRIBE: "Given a function, write its documentation.",
    Task.COMMIT_EDIT: "Given a commit's message and the files before it, write the change as search/replace blocks.",
    Task.SEARCH_REPLACE: "Given a file with a gap, write the search/replace block that fills it.",
    Task.TESTS: "Given a function and its file, write tests for it.",
    Task.REVIEW_FIX: "Given a review comment and the files, write the change that answers it.",
    Task.QA: "Given a question about the repository, answer it and name the lines that say so.",
    Task.PRETRAIN: "Whole files, read as they are; each token is learned from those before it.",
}
MAX_SHARDS = 60
MAX_SETTINGS_LINES, MAX_SETTINGS_CHARS = 1200, 60_000


def render(
    manifest: DatasetManifest, survey: Survey, drops: Drops, *, examples: Mapping[str, Sequence[Example]]
) -> str:
    """The page as HTML. examples are the rows to show, by task."""
    style = page_style(HERE / STYLE)
    tasks = figures.tasks(survey)
    task_names = [line.task for line in tasks]
    files, others = divided(manifest.dropped, drops)
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            manifest=manifest,
            style=style,
            policy=page_policy(style),
            title=_title(manifest),
            rows=manifest.num_examples(),
            split_rows={str(split): manifest.num_examples(split) for split in Split},
            learned=sum(row.loss_bytes for row in manifest.counts),
            whole=sum(found.whole.total for found in survey.tasks.values()),
            notes=notes(manifest, survey),
            sources=figures.sources(manifest, survey),
            licenses=figures.named(survey.licenses, nameless="none found"),
            visibilities=figures.named(survey.visibilities),
            tasks=tasks,
            sides=[side for side in SIDES if any(line.sides.get(side) for line in tasks)],
            languages=figures.languages(manifest, task_names),
            lengths=_lengths(survey, task_names),
            funnel=figures.funnel(manifest, files),
            file_reasons=figures.reasons(files, drops.samples),
            row_reasons=figures.reasons(others, drops.edit_samples),
            redacted=figures.reasons(manifest.redacted),
            placeholders=survey.tasks,
            clusters=figures.clusters(drops),
            cluster_sizes=sorted(drops.cluster_sizes.items()),
            twins_unnamed=drops.twins_unnamed,
            timeline=timeline(survey.months, _cut_month(manifest)),
            cut=_moment(manifest.split.cutoff_at),
            leaked=figures.reasons(manifest.split.leaked),
            meanings={str(task): text for task, text in MEANINGS.items()},
            examples={task: [card(row) for row in rows] for task, rows in examples.items()},
            settings=excerpt(_pretty(manifest.settings), max_lines=MAX_SETTINGS_LINES, max_chars=MAX_SETTINGS_CHARS),
            shards=figures.Capped(manifest.shards[:MAX_SHARDS], len(manifest.shards)),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "size": size,
        "harmless": harmless,
        "number": lambda value: f"{value:,}",
        "name": name,
        "share": _share,
    }
    return environment


def _share(part: int, whole: int) -> str:
    """Part of whole in percent, with as many digits as are of use."""
    if not whole:
        return "0 %"
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 10 or not part else f"{percent:.1f} %" if percent >= 0.1 else "< 0.1 %"


def _title(manifest: DatasetManifest) -> str:
    names = [source.repo for source in manifest.sources]
    more = len(names) - MAX_TITLE_NAMES
    return ", ".join(names[:MAX_TITLE_NAMES]) + (f" and {more} more" if more > 0 else "")


def _lengths(survey: Survey, task_names: Sequence[str]) -> list[dict[str, object]]:
    found = [survey.tasks[task] for task in task_names]
    learned, whole = shared_range([row.learned for row in found]), shared_range([row.whole for row in found])
    return [
        {"task": task, "learned": histogram(row.learned, learned), "whole": histogram(row.whole, whole)}
        for task, row in zip(task_names, found, strict=True)
    ]


def _cut_month(manifest: DatasetManifest) -> str:
    return NO_MONTH if manifest.split.cutoff_at is None else month(manifest.split.cutoff_at)


def _moment(seconds: int | None) -> str:
    if seconds is None or month(seconds) == NO_MONTH:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _pretty(settings: str) -> str:
    try:
        return json.dumps(json.loads(settings), indent=2, ensure_ascii=False, sort_keys=True)
    except ValueError:
        return settings
