"""finetune demo: the whole loop on the embedded base, each step the same code as the command of its name."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from finetune.cli.card import having_card
from finetune.guard.jail import JailMode, Needs
from finetune.terminal.jail import Jail, enter_jail
from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from finetune.cli.closing import DemoResult
    from finetune.contracts.dataset import DatasetManifest
    from finetune.contracts.evaluation import EvaluationReport
    from finetune.contracts.run import Home, RunState

EXAMPLES = "Examples: `finetune demo`, `finetune demo --repo ~/src/billing --home /tmp/demo`."
RECIPE = Path("recipes") / "qwen3_5" / "embedded-qlora.yaml"
CLONE = Path(__file__).resolve().parents[2]
ResultT = TypeVar("ResultT")


def demo(
    repo: Annotated[
        Path | None, typer.Option(help="A git repository. None: the clone that this program is in.")
    ] = None,
    jail: Jail = JailMode.AUTO,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Build data, train, evaluate, serve and ask, on a repository and the embedded base, without a GPU."""
    from finetune.cli.closing import closing_text
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit

    enter_jail(jail, Needs(loopback="the demo asks its server over TCP"))
    result = run_demo(repo or CLONE, Home(home.absolute()))
    emit(result.model_dump(mode="json"), as_json=json, text=closing_text(result, home))


def run_demo(repo: Path, home: "Home") -> "DemoResult":
    """The loop; returns what the closing table shows."""
    from finetune.cli.ask import ask_both
    from finetune.cli.closing import DemoResult
    from finetune.contracts.run import RunLayout
    from finetune.tracking.figures import training_figures

    started = time.monotonic()
    dataset = home.datasets / "demo"
    manifest = _step(1, f"Data: {repo}", lambda: _build(repo, dataset, home))
    with having_card(home, "finetune demo"):
        state = _step(2, "Training: the embedded base in 4 bit, a LoRA adapter on top", lambda: _train(dataset, home))
        report = _step(3, "Evaluation: base against adapter on held-out files", lambda: _evaluate(home, state.run_id))
        answers = _step(4, "Serving: the same question to base and adapter", lambda: ask_both(home, state, dataset))
    return DemoResult(
        repository=str(repo),
        dataset=manifest,
        run=state,
        training=training_figures(RunLayout(home.runs / state.run_id).journal),
        scores=report.scores,
        answers=answers,
        seconds=round(time.monotonic() - started),
    )


def _step(number: int, title: str, work: Callable[[], ResultT]) -> ResultT:
    from finetune.terminal.output import note
    from finetune.terminal.progress import format_seconds

    note(f"\n[{number}/4] {title}")
    started = time.monotonic()
    result = work()
    note(f"      done in {format_seconds(time.monotonic() - started)}")
    return result


def _build(repo: Path, out: Path, home: "Home") -> "DatasetManifest":
    from data_pipelines.config import PipelineConfig
    from data_pipelines.pipeline import build_dataset
    from finetune.contracts.egress import EGRESS_NAME
    from finetune.terminal.egress import conclude
    from finetune.terminal.progress import Progress

    config = PipelineConfig.for_repositories([repo])
    with Progress("Building", None) as progress:
        manifest = build_dataset(config, out, data_folder=home.data, progress=progress)
    conclude(out / EGRESS_NAME, "data build", mode=config.egress)
    return manifest


def _train(dataset: Path, home: "Home") -> "RunState":
    from finetune.cli.train import run_training
    from finetune.contracts.errors import InputError
    from finetune.recipe.load import load_recipe
    from finetune.recipe.resolve import resolve

    recipe = CLONE / RECIPE
    if not recipe.is_file():
        raise InputError(f"{recipe} is missing.", "Run the demo from a clone of the project: make demo")
    return run_training(resolve(load_recipe(recipe, [f"data.dataset={dataset}"])), home)


def _evaluate(home: "Home", run_id: str) -> "EvaluationReport":
    from finetune.cli.evaluate import run_evaluation
    from finetune.contracts.evaluation import SuiteName

    return run_evaluation(home, run_id, suites=(SuiteName.HELDOUT, SuiteName.INFILL))
