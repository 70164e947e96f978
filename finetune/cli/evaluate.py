"""finetune evaluate: base against adapter on the company's own code, with a verdict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli.card import ShareCard, having_card
from finetune.contracts.suite_name import SuiteName
from finetune.guard.jail import JailMode, Needs
from finetune.terminal.jail import Jail, enter_jail
from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetune.contracts.evaluation import EvaluationReport
    from finetune.contracts.run import Home
    from finetune.evaluate.suites import Site
    from finetune.recipe.resolve import ResolvedRecipe

EXAMPLES = (
    "Examples: `finetune evaluate embedded-20260102-101500-3f2a`, "
    "`finetune evaluate embedded-1f0c9a2b3d4e --suite heldout --suite infill --json`."
)


def evaluate(
    target: Annotated[str, typer.Argument(metavar="RUN|ADAPTER", help="A run, or an adapter's id or folder.")],
    suite: Annotated[
        list[SuiteName], typer.Option("--suite", help="Measure this suite; repeatable. None: all that can be measured.")
    ] = [],  # noqa: B006
    dataset: Annotated[
        Path | None, typer.Option(help="Judge on this dataset's held-out split instead of the run's own.")
    ] = None,
    tasks: Annotated[
        list[Path],
        typer.Option(
            "--tasks", metavar="DIR", help="Tasks that tests grade; repeatable. None: all in tasks/ of the home."
        ),
    ] = [],  # noqa: B006
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask this endpoint the same, to show that what is judged is served."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", metavar="PATH", help="Key of the dataset's placeholders, if not the home's own."),
    ] = None,
    share_card: ShareCard = False,
    jail: Jail = JailMode.AUTO,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Compare base and adapter on held-out code; the report goes to the run, to MLflow and to the adapter's manifest.

    A killed evaluation goes on where it was, and what was measured of a base is not measured again. Without --endpoint
    a server of the same home leaves the card meanwhile.
    """
    from finetune.adapters.find import find_usable
    from finetune.contracts.run import Home, RunLayout

    place = Home(home.absolute())
    # no server leaves its card for a name that is mistyped
    enter_jail(jail, _needs(place, find_usable(place, target), endpoint))
    from finetune.contracts.evaluation import PAGE_NAME
    from finetune.evaluate.text import report_text
    from finetune.terminal.output import emit

    # what is asked at an endpoint must be served
    with having_card(place, f"finetune evaluate {target}", share=share_card or endpoint is not None):
        report = run_evaluation(
            place,
            target,
            suites=suite or tuple(SuiteName),
            dataset=dataset,
            tasks=tasks,
            endpoint=endpoint,
            key_file=key_file,
        )
    page = None if dataset else RunLayout(place.runs / report.run_id).evaluation / PAGE_NAME
    emit(report.model_dump(mode="json"), as_json=json, text=report_text(report, page=page))


def _needs(home: "Home", folder: Path, endpoint: str | None) -> Needs:
    """What an evaluation must reach: the server that has the run, and the endpoint that is asked the same."""
    from finetune.contracts.adapter_files import read_manifest
    from finetune.guard.endpoint import local_endpoint
    from finetune.train.run_folder import run_recipe

    server = run_recipe(home, read_manifest(folder).run_id).track.server
    named = [local_endpoint(url) for url in (server, endpoint) if url]
    return Needs(endpoints=tuple(one for one in named if one))


def run_evaluation(
    home: "Home",
    target: str,
    *,
    suites: "Sequence[SuiteName]",
    dataset: Path | None = None,
    tasks: "Sequence[Path]" = (),
    endpoint: str | None = None,
    key_file: Path | None = None,
) -> "EvaluationReport":
    """Evaluate the adapter that target names and record the result where the run and the adapter are.

    A dataset other than the run's own is judged and reported, but not recorded: the run's record is about its own data.
    """
    from finetune.adapters.find import find_usable
    from finetune.cli.served import as_served
    from finetune.contracts.adapter_files import read_adapter
    from finetune.contracts.chain import record_evaluation as note_evaluation
    from finetune.contracts.evaluation import REPORT_NAME
    from finetune.contracts.io import digest_file
    from finetune.evaluate.record import record_evaluation
    from finetune.evaluate.report import evaluate as compare
    from finetune.model.base_copy import BaseCopies
    from finetune.model.loading import load_base
    from finetune.release.promote import chain_of
    from finetune.terminal.output import note
    from finetune.terminal.signals import interrupted_by_signals
    from finetune.train.run_folder import find_run, read_state, run_recipe

    folder = find_usable(home, target)
    manifest = read_adapter(folder)
    layout = find_run(home, manifest.run_id)
    state, resolved = read_state(layout), run_recipe(home, manifest.run_id)
    rows = dataset or Path(state.dataset_path)
    site = _site(home, rows, resolved, tasks=tasks, key_file=key_file)
    base = load_base(
        Path(state.base_path),
        quantization=manifest.quantization,
        embedding_on_host=resolved.base.embedding_on_host,
        copies=BaseCopies(home.bases) if resolved.base.cache else None,
    )
    note(f"Comparing {manifest.base.name} with {manifest.adapter_id} on the held-out split of {rows}")
    with interrupted_by_signals():
        evaluation = compare(
            base,
            folder,
            rows,
            names=suites,
            section=resolved.evaluate,
            max_tokens=resolved.data.max_tokens,
            site=site,
        )
    if endpoint is not None:
        evaluation = as_served(evaluation, endpoint)
    if dataset is not None:
        return _unrecorded(evaluation.report, resolved)
    report = record_evaluation(evaluation, home, layout)
    note_evaluation(chain_of(home), report, digest=digest_file(layout.evaluation / REPORT_NAME))
    return report


def _unrecorded(report: "EvaluationReport", resolved: "ResolvedRecipe") -> "EvaluationReport":
    """The report of an evaluation that is written nowhere. Raises EgressError when something tried to leave."""
    from finetune.terminal.egress import refuse_attempts, take_report

    refuse_attempts(take_report("evaluate"), None, mode=resolved.egress)
    return report


def _site(
    home: "Home", dataset: Path, resolved: "ResolvedRecipe", *, tasks: "Sequence[Path]", key_file: Path | None
) -> "Site":
    """What suites need beside rows; tasks are folders of tasks that tests grade, none for those of the home."""
    from finetune.cli.secret_scan import secret_scan
    from finetune.contracts.dataset import Task
    from finetune.contracts.executed import SUITE_NAME
    from finetune.evaluate.suites import Site

    return Site(
        home.measured,
        scan=secret_scan(home, dataset, key_file=key_file),
        trained_tasks=[Task(name) for name, weight in resolved.data.tasks if weight],
        tasks=tasks or sorted(path.parent for path in home.tasks.glob(f"*/{SUITE_NAME}")),
    )
