"""Put an evaluation where people look for it: the run folder, the tracked run, and the adapter's manifest."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME, ADAPTER_SIGNATURE_NAME, AdapterManifest
from finetune.contracts.adapter_files import read_manifest, write_manifest
from finetune.contracts.dataset import MANIFEST_NAME, DatasetManifest
from finetune.contracts.egress import EGRESS_NAME
from finetune.contracts.errors import DatasetError, RunError
from finetune.contracts.evaluation import EvaluationReport
from finetune.contracts.io import read_model, write_json
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.evaluate.page.write import write_page
from finetune.evaluate.plot import plot_scores
from finetune.evaluate.report import Evaluation, save_evaluation
from finetune.evaluate.tracked import evaluation_tags, tracked_metrics
from finetune.recipe.resolve import ResolvedRecipe, base_folder
from finetune.recipe.schema import EMBEDDED_BASE
from finetune.terminal.egress import refuse_attempts, take_report
from finetune.terminal.output import note
from finetune.tracking.base import Tracker
from finetune.tracking.card import run_card, short_path
from finetune.tracking.figures import training_figures
from finetune.tracking.mlflow import PLOTS_FOLDER, MlflowTracker
from finetune.tracking.summary import run_summary

HINT = "`finetune runs list` shows the runs of this home."
PLOT_NAME = "evaluation.png"
FOLDER = "evaluation"


def record_evaluation(
    evaluation: Evaluation, home: Home, layout: RunLayout, *, tracker: Tracker | None = None
) -> EvaluationReport:
    """Write an evaluation into the run folder, then into the tracked run and the manifests of the adapter's copies.

    tracker None is the home's MLflow store. Raises RunError for a damaged run folder, MachineError for a full disk or
    a store that cannot be opened; the run folder holds the report by then. Raises EgressError, when all is written, if
    something tried to leave during the evaluation and the recipe does not say to warn.
    """
    state = read_model(layout.state, RunState, error=RunError, hint=HINT)
    resolved = read_model(layout.resolved_recipe, ResolvedRecipe, error=RunError, hint=HINT)
    report = save_evaluation(evaluation, layout.evaluation).report
    write_page(layout.evaluation)
    egress = take_report("evaluate")
    write_json(layout.evaluation / EGRESS_NAME, egress)
    plot_scores(report.scores, layout.root / PLOT_NAME, title=report.adapter_id)
    manifest = _score_manifests(report, (layout.adapter, home.adapters / report.adapter_id))
    text = run_summary(
        resolved,
        read_model(Path(state.dataset_path) / MANIFEST_NAME, DatasetManifest, error=DatasetError, hint=HINT),
        base_name=report.base.name,
        run_id=state.run_id,
        training=training_figures(layout.journal),
        adapter=manifest,
        scores=report.scores,
        next_command=f"finetune serve start {_base_argument(resolved)} --adapter {resolved.name}={report.adapter_id}",
    )
    with _opened(tracker or MlflowTracker(home, layout), resolved, state=state, tags=evaluation_tags(report)) as record:
        record.metrics(state.steps_done, tracked_metrics(report))
        record.artifact(layout.evaluation, FOLDER)
        record.artifact(layout.root / PLOT_NAME, PLOTS_FOLDER)
        if manifest is not None:
            record.register(manifest, layout.adapter, resolved.track.adapter_name or resolved.name)
        record.tag(egress.tags("evaluation."))
        record.describe(text)
    refuse_attempts(egress, layout.evaluation / EGRESS_NAME, mode=resolved.egress)
    return report


@contextmanager
def _opened(
    tracker: Tracker, resolved: ResolvedRecipe, *, state: RunState, tags: Mapping[str, str]
) -> Iterator[Tracker]:
    """Go on with the tracked run, and leave it with the status that it had."""
    card = run_card(state.run_id, resolved)
    tracker.start(replace(card, tags={**card.tags, **tags}), resume=state.tracking_run_id)
    try:
        yield tracker
    finally:
        tracker.finish("finished" if state.status == "running" else state.status)


def _base_argument(resolved: ResolvedRecipe) -> str:
    """What `serve start` takes for the run's base."""
    embedded = resolved.base.path == str(base_folder(EMBEDDED_BASE))
    return EMBEDDED_BASE if embedded else short_path(resolved.base.path)


def _score_manifests(report: EvaluationReport, folders: tuple[Path, ...]) -> AdapterManifest | None:
    found = None
    for folder in folders:
        if not (folder / ADAPTER_MANIFEST_NAME).is_file():
            continue
        manifest = read_manifest(folder)
        if manifest.adapter_id != report.adapter_id:
            continue
        found = manifest.model_copy(update={"scores": report.scores})
        if (folder / ADAPTER_SIGNATURE_NAME).exists():
            note(f"{folder} is signed: its manifest stays as it was signed, without these scores.")
        else:
            found = write_manifest(folder, found)
    return found
