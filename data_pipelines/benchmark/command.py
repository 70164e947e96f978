"""finetune data tasks: mine tasks that a repository's own tests grade."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from finetune.contracts.errors import InputError
from finetune.terminal.options import Json

EXAMPLES = (
    "Examples: `finetune data tasks ../api --python ../api/.venv/bin/python --out .finetune/tasks/api`, "
    "`finetune data tasks ../shop.git --python /srv/venvs/shop/bin/python --out /srv/tasks/shop --jobs 8 --json`, "
    "`finetune data tasks ../router --language go --out .finetune/tasks/router`."
)


class TestedLanguage(StrEnum):
    """Of which language functions become tasks."""

    PYTHON = "python"
    JAVASCRIPT = "javascript"
    GO = "go"
    JAVA = "java"


def tasks(
    repo: Annotated[Path, typer.Argument(metavar="REPO", help="A clone or bare repository; its head is read.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the tasks.")],
    language: Annotated[
        TestedLanguage, typer.Option("--language", help="What its functions and tests are written in.")
    ] = TestedLanguage.PYTHON,
    toolchain: Annotated[
        Path | None,
        typer.Option(
            "--python",
            "--toolchain",
            metavar="PATH",
            help="What runs its tests: the interpreter of their environment (needed for python); "
            "node, go or mvn, if not the system's.",
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The repository's name, if not REPO's.")] = "",
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Tasks at most.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="Functions tested at a time.")] = 2,
    json: Json = False,
) -> None:
    """Cut the bodies out of a repository's functions and keep those that its own tests tell from stubs.

    The tests are pytest's, node's own (node --test), Go's, or JUnit's under Maven. They run in a jail without network,
    with what is installed. The same command again goes on where a killed one was.
    """
    from data_pipelines.benchmark.body_mining import mine_bodies
    from data_pipelines.benchmark.languages.registry import LANGUAGES
    from data_pipelines.benchmark.mining import mine_tasks
    from data_pipelines.benchmark.told import mined_text
    from data_pipelines.sources.git import open_repository
    from finetune.terminal.output import emit
    from finetune.terminal.signals import interrupted_by_signals

    with interrupted_by_signals():
        resolved = repo.resolve()
        with open_repository(repo, name=name or resolved.name.removesuffix(".git")) as repository:
            if language is not TestedLanguage.PYTHON:
                spoken = LANGUAGES[language.value]
                found = mine_bodies(repository, spoken, out, program=toolchain, limit=limit, jobs=jobs)
                emit(found.document(out), as_json=json, text=found.text(out))
                return
            if toolchain is None:
                raise InputError(
                    "Python tests need the interpreter of an environment that has pytest and what they import.",
                    "Name it: --python VENV/bin/python",
                )
            mined = mine_tasks(repository, toolchain, out, limit=limit, jobs=jobs)
    document = {
        "path": str(out),
        "functions": mined.num_functions,
        "screened": mined.screened,
        "kept_from_before": mined.kept_from_before,
        "minutes": round(mined.minutes, 2),
        **mined.suite.model_dump(mode="json"),
    }
    emit(document, as_json=json, text=mined_text(out, mined))
