"""finetune data: build a dataset from repositories, and look at one."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.terminal.options import Json

app = typer.Typer(help="Make datasets from repositories; look at them.", no_args_is_help=True, rich_markup_mode=None)

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
    json: Json = False,
) -> None:
    """Read repositories at their head commits and write a dataset. What is at DIR is replaced only on success."""
    from data_pipelines.config import PipelineConfig, load_pipeline
    from data_pipelines.pipeline import build_dataset
    from data_pipelines.show import summary
    from finetune.contracts.errors import UsageError
    from finetune.terminal.output import emit
    from finetune.terminal.progress import Progress

    if out is None:
        raise UsageError("The folder of the dataset is missing.", "Name it: --out .finetune/datasets/NAME")
    if pipeline is None and not repo:
        raise UsageError("Neither a pipeline file nor a repository was named.", "Give --repo PATH, or a PIPELINE.yaml.")
    config = load_pipeline(pipeline) if pipeline else PipelineConfig()
    with Progress("Building", None) as progress:
        manifest = build_dataset(config.with_repositories(repo) if repo else config, out, progress=progress)
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
    "`finetune data inspect .finetune/datasets/own --split heldout --limit 20 --json`.",
)
def inspect(
    folder: DatasetFolder,
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="infill, docstring, commit_edit or pretrain.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", metavar="NAME", help="train or heldout.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Rows at most.")] = 5,
    json: Json = False,
) -> None:
    """Show rows as a person reads them."""
    from data_pipelines.show import choose, page, read_rows
    from finetune.contracts.dataset import Split, Task
    from finetune.terminal.output import emit

    rows = read_rows(folder, task=choose(Task, task), split=choose(Split, split), limit=limit)
    emit(
        {"path": str(folder), "examples": [row.model_dump(mode="json") for row in rows]},
        as_json=json,
        text=page(rows),
    )
