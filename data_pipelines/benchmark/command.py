"""finetune data tasks and tasks-export: tasks that a repository's own tests grade, and the same for other harnesses."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from finetune.contracts.errors import UsageError
from finetune.terminal.options import Json

if TYPE_CHECKING:
    from data_pipelines.sources.git import Repository

Told = tuple[dict[str, Any], str]

EXAMPLES = (
    "Examples: `finetune data tasks ../api --python ../api/.venv/bin/python --dataset "
    ".finetune/datasets/main --out .finetune/tasks/api`, "
    "`finetune data tasks ../api --python ../api/.venv/bin/python --out .finetune/tasks/api-commits --kind commit`, "
    "`finetune data tasks ../router --language go --out .finetune/tasks/router`."
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


class TestedLanguage(StrEnum):
    """Of which language functions become tasks."""

    PYTHON = "python"
    JAVASCRIPT = "javascript"
    GO = "go"
    JAVA = "java"


class Miner(Protocol):
    """Mines tasks into out, and returns what a program and what a person reads of it."""

    def __call__(
        self, repository: "Repository", out: Path, *, limit: int | None, jobs: int, dataset: Path | None
    ) -> Told: ...


def tasks(
    repo: Annotated[Path, typer.Argument(metavar="REPO", help="A clone or bare repository; its head is read.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the tasks.")],
    kind: Annotated[
        Kind, typer.Option("--kind", help="Of function bodies, or of commits that changed source and tests (python).")
    ] = Kind.BODY,
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
    """Make tasks of a repository's functions or commits that its own tests can grade.

    body: a function without its body, kept if tests tell it from stubs. commit: what a commit's message asks for,
    newest first, kept if tests fail without its change and pass with it. The tests are pytest's, node's own (node
    --test), Go's, or JUnit's under Maven. They run in a jail without network, with what is installed. The same command
    again goes on where a killed one was.
    """
    from data_pipelines.sources.git import open_repository
    from finetune.terminal.output import emit
    from finetune.terminal.signals import interrupted_by_signals

    mine = _miner(kind, language, toolchain)
    with interrupted_by_signals():
        resolved = repo.resolve()
        with open_repository(repo, name=name or resolved.name.removesuffix(".git")) as repository:
            document, text = mine(repository, out, limit=limit, jobs=jobs, dataset=dataset)
    emit(document, as_json=json, text=text)


def _miner(kind: Kind, language: TestedLanguage, toolchain: Path | None) -> Miner:
    """What mines tasks of that kind; it returns what a program and what a person reads. Raises UsageError."""
    from data_pipelines.benchmark.body_mining import mine_bodies
    from data_pipelines.benchmark.commit_mining import mine_commits
    from data_pipelines.benchmark.languages.registry import LANGUAGES
    from data_pipelines.benchmark.mining import mine_tasks
    from data_pipelines.benchmark.told import commits_document, commits_text, mined_document, mined_text

    def of_bodies(repository: "Repository", out: Path, **options: Any) -> Told:
        bodies = mine_bodies(repository, LANGUAGES[language.value], out, program=toolchain, **options)
        return bodies.document(out), bodies.text(out)

    if language is not TestedLanguage.PYTHON:
        if kind is Kind.COMMIT:
            raise UsageError(
                f"Commits are mined in Python alone, not in {language.value}.", "Leave --kind out, or --language."
            )
        return of_bodies
    if toolchain is None:
        raise UsageError(
            "Python tests need the interpreter of an environment that has pytest and what they import.",
            "Name it: --python VENV/bin/python",
        )

    def of_python(repository: "Repository", out: Path, **options: Any) -> Told:
        if kind is Kind.COMMIT:
            commits = mine_commits(repository, toolchain, out, **options)
            return commits_document(out, commits), commits_text(out, commits)
        mined = mine_tasks(repository, toolchain, out, **options)
        return mined_document(out, mined), mined_text(out, mined)

    return of_python


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
