"""finetune evaluate: base against adapter on the held-out split, with a verdict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from finetune.contracts.run import Home
    from finetune.evaluate.report import EvaluationReport

EXAMPLES = (
    "Examples: `finetune evaluate embedded-20260102-101500-3f2a`, "
    "`finetune evaluate embedded-1f0c9a2b3d4e --dataset .finetune/datasets/other --json`."
)


def evaluate(
    target: Annotated[str, typer.Argument(metavar="RUN|ADAPTER", help="A run, or an adapter's id or folder.")],
    dataset: Annotated[
        Path | None, typer.Option(help="Judge on this dataset's held-out split instead of the run's own.")
    ] = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Compare base and adapter on held-out code; the figures go to the run, to MLflow and to the adapter's manifest."""
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit

    report = run_evaluation(Home(home.absolute()), target, dataset=dataset)
    emit(report.model_dump(mode="json"), as_json=json, text=report.text())


def run_evaluation(home: "Home", target: str, *, dataset: Path | None = None) -> "EvaluationReport":
    """Evaluate the adapter that target names and record the result where the run and the adapter are.

    A dataset other than the run's own is judged and reported, but not recorded: the run's record is about its own data.
    """
    from finetune.adapters.verify import find_adapter
    from finetune.contracts.adapter_files import read_adapter
    from finetune.evaluate.record import record_report
    from finetune.evaluate.report import evaluate as compare
    from finetune.model.base_copy import BaseCopies
    from finetune.model.loading import load_base
    from finetune.terminal.output import note
    from finetune.train.run_folder import find_run, read_state, run_recipe

    folder = find_adapter(home, target)
    manifest = read_adapter(folder)
    layout = find_run(home, manifest.run_id)
    state, resolved = read_state(layout), run_recipe(home, manifest.run_id)
    rows = dataset or Path(state.dataset_path)
    base = load_base(
        Path(state.base_path),
        quantization=manifest.quantization,
        embedding_on_host=resolved.base.embedding_on_host,
        copies=BaseCopies(home.bases) if resolved.base.cache else None,
    )
    note(f"Comparing {manifest.base.name} with {manifest.adapter_id} on the held-out split of {rows}")
    report = compare(base, folder, rows, section=resolved.evaluate, max_tokens=resolved.data.max_tokens)
    if dataset is None:
        record_report(report, home, layout)
    return report
