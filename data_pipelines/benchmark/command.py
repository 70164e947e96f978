"""finetune data tasks: mine tasks that a repository's own tests grade."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.terminal.options import Json

EXAMPLES = (
    "Examples: `finetune data tasks ../api --python ../api/.venv/bin/python --dataset "
    ".finetune/datasets/main --out .finetune/tasks/api`, "
    "`finetune data tasks ../shop.git --python /srv/venvs/shop/bin/python --out /srv/tasks/shop --jobs 8 --json`."
)


def tasks(
    repo: Annotated[Path, typer.Argument(metavar="REPO", help="A clone or bare repository; its head is read.")],
    python: Annotated[
        Path, typer.Option("--python", metavar="PATH", help="Interpreter of an environment in which its tests run.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the tasks.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The repository's name, if not REPO's.")] = "",
    dataset: Annotated[
        Path | None,
        typer.Option(
            "--dataset", metavar="DATASET", help="Label each task as seen, evolving or novel by this dataset."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Tasks at most.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="Functions tested at a time.")] = 2,
    json: Json = False,
) -> None:
    """Cut the bodies out of a Python repository's functions and keep those that its pytest tests tell from stubs.

    Tests run in a jail without network. The same command again goes on where a killed one was.
    """
    from data_pipelines.benchmark.mining import mine_tasks
    from data_pipelines.benchmark.told import mined_text
    from data_pipelines.sources.git import open_repository
    from finetune.terminal.output import emit
    from finetune.terminal.signals import interrupted_by_signals

    with interrupted_by_signals():
        resolved = repo.resolve()
        with open_repository(repo, name=name or resolved.name.removesuffix(".git")) as repository:
            mined = mine_tasks(repository, python, out, limit=limit, jobs=jobs, dataset=dataset)
    document = {
        "path": str(out),
        "labels": dict(mined.labels),
        "functions": mined.num_functions,
        "screened": mined.screened,
        "kept_from_before": mined.kept_from_before,
        "tested": mined.tested,
        "screening_minutes": round(mined.screening_minutes, 2),
        "minutes": round(mined.minutes, 2),
        **mined.suite.model_dump(mode="json"),
    }
    emit(document, as_json=json, text=mined_text(out, mined))
