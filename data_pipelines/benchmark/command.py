"""finetune data tasks and tasks-export: tasks that a repository's own tests grade, and the same for other harnesses."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from finetune.terminal.options import Json

EXAMPLES = (
    "Examples: `finetune data tasks ../api --python ../api/.venv/bin/python --dataset "
    ".finetune/datasets/main --out .finetune/tasks/api`, "
    "`finetune data tasks ../api --python ../api/.venv/bin/python --out .finetune/tasks/api-commits --kind commit`."
)
EXPORT_EXAMPLES = (
    "Examples: `finetune data tasks-export .finetune/tasks/api --layout harbor --out ../api-harbor`, "
    "`finetune data tasks-export /srv/tasks/shop --layout swebench --out /srv/shop-swebench --image shop-ci:12 --json`."
)


class Kind(StrEnum):
    """What becomes a task."""

    BODY = "body"
    COMMIT = "commit"


class LayoutName(StrEnum):
    """Whose layout."""

    SWEBENCH = "swebench"
    HARBOR = "harbor"


def tasks(
    repo: Annotated[Path, typer.Argument(metavar="REPO", help="A clone or bare repository; its head is read.")],
    python: Annotated[
        Path, typer.Option("--python", metavar="PATH", help="Interpreter of an environment in which its tests run.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the tasks.")],
    kind: Annotated[
        Kind, typer.Option("--kind", help="Of function bodies, or of commits that changed source and tests.")
    ] = Kind.BODY,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The repository's name, if not REPO's.")] = "",
    dataset: Annotated[
        Path | None,
        typer.Option(
            "--dataset", metavar="DATASET", help="Label each task as seen, evolving or novel by this dataset."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Tasks at most.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="Functions or commits tested at a time.")] = 2,
    json: Json = False,
) -> None:
    """Make tasks of a Python repository's functions or commits that its pytest tests can grade.

    body: a function without its body, kept if tests tell it from stubs. commit: what a commit's message asks for,
    newest first, kept if tests fail without its change and pass with it. Tests run in a jail without network. The same
    command again goes on where a killed one was.
    """
    from data_pipelines.benchmark.commit_mining import mine_commits
    from data_pipelines.benchmark.mining import mine_tasks
    from data_pipelines.benchmark.told import commits_document, commits_text, mined_text
    from data_pipelines.sources.git import open_repository
    from finetune.terminal.output import emit
    from finetune.terminal.signals import interrupted_by_signals

    with interrupted_by_signals():
        resolved = repo.resolve()
        with open_repository(repo, name=name or resolved.name.removesuffix(".git")) as repository:
            if kind is Kind.COMMIT:
                found = mine_commits(repository, python, out, limit=limit, jobs=jobs, dataset=dataset)
                emit({"path": str(out), **commits_document(found)}, as_json=json, text=commits_text(out, found))
                return
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


def tasks_export(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="A folder that `finetune data tasks` made.")],
    layout: Annotated[LayoutName, typer.Option("--layout", help="SWE-bench's task repository, or Harbor's tasks.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write; replaced only on success.")],
    image: Annotated[
        str,
        typer.Option("--image", metavar="NAME", help="Container image in which the tests run, if not <repo>-tests."),
    ] = "",
    json: Json = False,
) -> None:
    """Write executed tasks in the layout of another harness, each with its tree, tests and the author's solution.

    The folders need no network: their Dockerfiles start from an image of yours, in which the repository's tests run.
    """
    from data_pipelines.benchmark.layouts.export import export_suite
    from data_pipelines.benchmark.told import exported_text
    from finetune.terminal.output import emit
    from finetune.terminal.signals import interrupted_by_signals

    with interrupted_by_signals():
        note = export_suite(suite, out, layout=layout.value, image=image)
    emit({"path": str(out), **note.model_dump(mode="json")}, as_json=json, text=exported_text(out, note))
