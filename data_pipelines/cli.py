"""finetune data: build a dataset from repositories, and look at one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_pipelines.benchmark.command import EXAMPLES as TASKS_EXAMPLES
from data_pipelines.benchmark.command import EXPORT_EXAMPLES, tasks, tasks_export
from finetune.guard.jail import JailMode
from finetune.terminal.jail import Jail, enter_jail
from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from data_pipelines.config import PipelineConfig

app = typer.Typer(
    help="Make datasets from repositories; look at them, trace them, take things out.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Author = Annotated[
    str, typer.Option("--author", metavar="EMAIL", help="A person, by the address in commits or its hash.")
]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", metavar="PATH", help="Key of author hashes, if not the home's own.")
]
DatasetFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A dataset's folder.")]


@app.command(
    "build",
    epilog="Examples: `finetune data build --repo . --out .finetune/datasets/own`, "
    "`finetune data build recipes/data/default.yaml --repo ../api --repo ../shop.git --out /srv/datasets/shop --json`.",
)
def build(
    pipeline: Annotated[Path | None, typer.Argument(metavar="[PIPELINE.yaml]", help="A pipeline file.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the dataset. Required.")] = None,
    repo: Annotated[
        list[Path],
        typer.Option("--repo", metavar="PATH", help="A repository; repeatable; wins over the file's."),
    ] = [],  # noqa: B006
    jail: Jail = JailMode.AUTO,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Read repositories at their head commits and write a dataset. What is at DIR is replaced only on success.

    The same command again does only what changed since. What it needs for that lies in data/ of the home.
    """
    from data_pipelines.config import PipelineConfig, load_pipeline
    from data_pipelines.reach import needs
    from finetune.contracts.errors import UsageError

    if out is None:
        raise UsageError("The folder of the dataset is missing.", "Name it: --out .finetune/datasets/NAME")
    if pipeline is None and not repo:
        raise UsageError("Neither a pipeline file nor a repository was named.", "Give --repo PATH, or a PIPELINE.yaml.")
    config = load_pipeline(pipeline) if pipeline else PipelineConfig()
    enter_jail(jail, needs(config))
    _build(config.with_repositories(repo) if repo else config, out, home=home, json=json)


def _build(config: "PipelineConfig", out: Path, *, home: Path, json: bool) -> None:
    from data_pipelines.pipeline import build_dataset
    from data_pipelines.show import summary
    from finetune.contracts.egress import EGRESS_NAME
    from finetune.contracts.run import Home
    from finetune.terminal.egress import conclude
    from finetune.terminal.output import emit
    from finetune.terminal.progress import Progress
    from finetune.terminal.signals import interrupted_by_signals

    with interrupted_by_signals(), Progress("Building", None) as progress:
        manifest = build_dataset(config, out, data_folder=Home(home.absolute()).data, progress=progress)
    conclude(out / EGRESS_NAME, "data build", mode=config.egress)
    document = {"path": str(out), **manifest.model_dump(mode="json")}
    emit(document, as_json=json, text=summary(out, manifest))


@app.command(
    "stats",
    epilog="Examples: `finetune data stats .finetune/datasets/own`, `finetune data stats /srv/datasets/shop --json`.",
)
def stats(folder: DatasetFolder, json: Json = False) -> None:
    """Show what a dataset holds, what was left out and why, and what was redacted."""
    from data_pipelines.show import summary
    from data_pipelines.sinks.target import read_manifest
    from finetune.terminal.output import emit

    manifest = read_manifest(folder)
    emit(
        {"path": str(folder), **manifest.model_dump(mode="json")},
        as_json=json,
        text=summary(folder, manifest),
    )


@app.command(
    "inspect",
    epilog="Examples: `finetune data inspect .finetune/datasets/own --task infill`, "
    "`finetune data inspect .finetune/datasets/own --dropped --stage vendored --path 'lib/*' --limit 20 --json`.",
)
def inspect(
    folder: DatasetFolder,
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="A task, such as infill or commit_edit.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", metavar="NAME", help="train or heldout.")] = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="What was left out, in place of rows.")] = False,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="NAME", help="With --dropped: left out by this stage.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="With --dropped: reasons with this.")] = "",
    path: Annotated[str, typer.Option("--path", metavar="GLOB", help="With --dropped: files as in .gitignore.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Rows at most.")] = 5,
    json: Json = False,
) -> None:
    """Show rows as a person reads them; with --dropped files and commits that were left out, and why."""
    from data_pipelines.lineage.dropped import dropped_page, read_dropped
    from data_pipelines.show import choose, page, read_rows
    from finetune.contracts.dataset import Split, Task
    from finetune.contracts.errors import UsageError
    from finetune.terminal.output import emit

    if dropped:
        if task or split:
            raise UsageError("What was left out has no task and no split.", "Narrow it by --stage, --reason or --path.")
        found = read_dropped(folder, stage=stage, reason_contains=reason, path_glob=path, limit=limit)
        document = {"path": str(folder), "dropped": [row.model_dump(mode="json") for row in found]}
        emit(document, as_json=json, text=dropped_page(found))
        return
    if stage or reason or path:
        raise UsageError("--stage, --reason and --path choose among what was left out.", "Add --dropped.")
    rows = read_rows(folder, task=choose(Task, task), split=choose(Split, split), limit=limit)
    emit(
        {"path": str(folder), "examples": [row.model_dump(mode="json") for row in rows]},
        as_json=json,
        text=page(rows),
    )


@app.command(
    "report",
    epilog="Examples: `finetune data report .finetune/datasets/own`, `finetune data report /srv/datasets/shop --json`.",
)
def report(folder: DatasetFolder, json: Json = False) -> None:
    """Write report.html into a dataset: one page to judge it by. Each build does that; older datasets have none."""
    from data_pipelines.report.write import write_report
    from data_pipelines.sinks.target import read_manifest
    from finetune.terminal.output import emit
    from finetune.terminal.progress import Progress

    shards = read_manifest(folder).shards
    with Progress("Reporting", len(shards)) as progress:
        page = write_report(folder, progress=progress)
    emit({"path": str(folder), "report": str(page)}, as_json=json, text=f"Open {page} in a browser.")


@app.command(
    "trace",
    epilog="Examples: `finetune data trace .finetune/datasets/own --path 'src/billing/*'`, "
    "`finetune data trace .finetune/datasets/own --example 5e1d2d735ec3 --json`.",
)
def trace(
    folder: DatasetFolder,
    path: Annotated[str, typer.Option("--path", metavar="GLOB", help="Files, as in .gitignore.")] = "",
    repo: Annotated[str, typer.Option("--repo", metavar="NAME", help="A repository, by its name in stats.")] = "",
    commit: Annotated[str, typer.Option("--commit", metavar="ID", help="A commit, or the start of its id.")] = "",
    author: Author = "",
    example: Annotated[str, typer.Option("--example", metavar="ID", help="A row, by the start of its id.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Rows, or names of a kind, at most.")] = 20,
    key_file: KeyFile = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Show which rows came from a file, commit or author; or what a row, or the whole dataset, was made from.

    Runs and adapters of the home that were trained on the dataset are named, too.
    """
    from dataclasses import asdict

    from data_pipelines.lineage.forgetting import read_forgotten
    from data_pipelines.lineage.lineage import author_of, find_key
    from data_pipelines.lineage.lineage_text import example_text, inventory_text, trace_text
    from data_pipelines.lineage.trace import Filter, find_example, row_document, take_stock, trained
    from data_pipelines.lineage.trace import trace as trace_rows
    from data_pipelines.sinks.target import read_manifest
    from finetune.contracts.errors import UsageError
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit

    place = Home(home.absolute())
    manifest = read_manifest(folder)
    digest = author_of(folder, author, key=find_key(place.data, key_file)) if author else ""
    wanted = Filter(repo=repo, path=path, commit=commit.lower(), author=digest)
    seen = trained(folder, manifest, home=place)
    document: dict[str, object] = {"path": str(folder), "digest": manifest.content_digest}
    document["trained"] = [asdict(item) for item in seen]
    if example:
        if wanted:
            raise UsageError("--example names one row already.", "Leave the other options out.")
        row = find_example(folder, example)
        emit({**document, "example": row_document(row)}, as_json=json, text=example_text(row, trained=seen))
    elif wanted:
        found = trace_rows(folder, wanted, limit=limit)
        counted = [{"task": key[0], "split": key[1], "slice": key[2], "rows": n} for key, n in found.by_kind.items()]
        document |= {"as_target": found.as_target, "as_context": found.as_context, "counts": counted}
        document |= {"rows": [row_document(row) for row in found.rows]}
        document |= {"left_out": [row.model_dump() for row in found.left_out]}
        emit(document, as_json=json, text=trace_text(folder, found, trained=seen, limit=limit))
    else:
        stock = take_stock(folder, limit=limit)
        forgotten = read_forgotten(folder)
        document |= {**asdict(stock), "forgotten": forgotten.names()}
        emit(document, as_json=json, text=inventory_text(folder, stock, forgotten=forgotten, trained=seen))


app.command("tasks", epilog=TASKS_EXAMPLES)(tasks)
app.command("tasks-export", epilog=EXPORT_EXAMPLES)(tasks_export)
