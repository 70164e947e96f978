"""A sweep: one training run for each pairing of values, one after the other; the best by the held-out sample.

The sweep's folder lies among the runs, and holds sweep.json instead of run.json. What is in there decides what is left
to do, so that an interrupted sweep goes on: finished runs stay, the one that was at work is resumed.
"""

import gc
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from finetune.contracts.dataset import MANIFEST_NAME, DatasetManifest, Split
from finetune.contracts.errors import DatasetError, DivergedError, PlatformError, RunError
from finetune.contracts.io import read_model, sole_writer, write_json
from finetune.contracts.run import Home, RunLayout
from finetune.recipe.grid import Cell
from finetune.render.dataset import HINT, open_dataset
from finetune.terminal.output import note
from finetune.tracking.base import RunCard, RunStatus, Tracker
from finetune.tracking.card import run_card
from finetune.train.data import dataset_folder, task_weights
from finetune.train.run_folder import new_run_id, read_state
from finetune.train.sft import train
from finetune.train.sweep_record import Sweep, SweepResult, SweepRun, read_sweep, sweep_layout, sweep_result

TrackerMaker = Callable[[RunLayout, str | None], Tracker]


def begin_sweep(cells: Sequence[Cell], home: Home) -> str:
    """Write the folder of a new sweep and return its id; nothing is trained yet.

    Raises DatasetError when the dataset cannot be used, or holds nothing out to choose the best by.
    """
    recipe = cells[0].recipe
    dataset = open_dataset(dataset_folder(recipe))
    tasks = [task for task, weight in task_weights(recipe.data.tasks).items() if weight]
    if not any(dataset.manifest.num_examples(Split.HELDOUT, task) for task in tasks):
        raise DatasetError(
            f"{dataset.folder} holds no row out by which the best run could be chosen.",
            "Build it again with a held-out part: finetune data build",
        )
    sweep_id = new_run_id(f"{recipe.name}-sweep")
    runs = tuple(
        SweepRun(run_id=f"{sweep_id}-{place}", settings=dict(cell.settings), recipe=cell.recipe)
        for place, cell in enumerate(cells, start=1)
    )
    sweep = Sweep(sweep_id=sweep_id, dataset_digest=dataset.manifest.content_digest, runs=runs)
    write_json(sweep_layout(home, sweep_id).sweep, sweep)
    return sweep_id


def run_sweep(home: Home, sweep_id: str, trackers: TrackerMaker) -> SweepResult:
    """Train what is left of a sweep. trackers makes the record of a run folder, under the tracking run id of the sweep.

    A run that goes out of hand, or fails, does not stop the others; what failed is tried again when the sweep goes on.
    Raises KeyboardInterrupt after a run was interrupted and saved, RunError when another process works on the sweep or
    the dataset has changed.
    """
    layout = sweep_layout(home, sweep_id)
    busy = RunError(f"Another process works on the sweep in {layout.root}.", "Wait for it to end, or stop it.")
    with sole_writer(layout.lock, busy):
        return _Work(home, read_sweep(home, sweep_id), trackers).run()


@dataclass
class _Work:
    """One process' work on one sweep. problems are the errors of runs by their ids."""

    home: Home
    sweep: Sweep
    trackers: TrackerMaker
    problems: dict[str, str] = field(default_factory=dict)

    def run(self) -> SweepResult:
        """Train the runs in their order, and keep a record of the whole."""
        if self.sweep.finished:
            return self.result()
        tracker = self.trackers(sweep_layout(self.home, self.sweep.sweep_id), None)
        self.update(tracking_run_id=tracker.start(sweep_card(self.sweep), resume=self.sweep.tracking_run_id))
        note(f"Sweep {self.sweep.sweep_id}: {len(self.sweep.runs)} runs, one after the other")
        status: RunStatus = "failed"
        try:
            for place, run in enumerate(self.sweep.runs, start=1):
                note(f"Run {place} of {len(self.sweep.runs)}: {settings_text(run)}")
                self.train(run)
            status = "failed" if self.result().failed else "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            note(f"The whole sweep goes on with: finetune train --resume {self.sweep.sweep_id}")
            raise
        finally:
            self.close(tracker, status)
        return self.result()

    def train(self, run: SweepRun) -> None:
        """Train one run, or what is left of it; how it went is in its run.json, in problems, or in the sweep's file."""
        resume = self.begun(run)
        if run.diverged is not None or (
            resume and read_state(sweep_layout(self.home, run.run_id)).status == "finished"
        ):
            return
        self.check_dataset(run)
        free_memory()
        tracker = self.trackers(sweep_layout(self.home, run.run_id), self.sweep.tracking_run_id)
        try:
            train(run.recipe, self.home, tracker, resume=run.run_id if resume else None, run_id=run.run_id)
        except DivergedError as error:
            note(f"{run.run_id} went out of hand: {error.message}")
            self.mark(run, error.message)
        except PlatformError as error:
            note(f"{run.run_id} failed: {error}")
            self.problems[run.run_id] = error.message

    def begun(self, run: SweepRun) -> bool:
        """Whether the run has a state to go on from; a folder without one was not even begun, and is removed."""
        layout = sweep_layout(self.home, run.run_id)
        if layout.root.exists() and not layout.state.is_file():
            shutil.rmtree(layout.root)
        return layout.state.is_file()

    def check_dataset(self, run: SweepRun) -> None:
        """Raise RunError when the dataset is no more what it was when the sweep began."""
        folder = dataset_folder(run.recipe)
        found = read_model(folder / MANIFEST_NAME, DatasetManifest, error=DatasetError, hint=HINT).content_digest
        if found != self.sweep.dataset_digest:
            raise RunError(
                f"{folder} has changed since the sweep {self.sweep.sweep_id} began: digest {found[:12]}, not "
                f"{self.sweep.dataset_digest[:12]}.",
                "Start a new sweep on it: finetune train RECIPE --sweep KEY=VALUES",
            )

    def mark(self, run: SweepRun, problem: str) -> None:
        """Write down that a run went out of hand: it would do so again."""
        runs = [
            other.model_copy(update={"diverged": problem}) if other.run_id == run.run_id else other
            for other in self.sweep.runs
        ]
        self.update(runs=tuple(runs))

    def update(self, **changes: object) -> None:
        """Replace fields of the sweep and write it."""
        self.sweep = self.sweep.model_copy(update=changes)
        write_json(sweep_layout(self.home, self.sweep.sweep_id).sweep, self.sweep)

    def close(self, tracker: Tracker, status: RunStatus) -> None:
        """Put the table, and at the end the figures, on the record of the whole."""
        result = self.result()
        tracker.describe(f"### Sweep\n\n```\n{result.text()}\n```\n")
        if status == "finished":
            for place, row in enumerate(result.rows, start=1):
                if row.bits_per_byte is not None:
                    tracker.metrics(place, {"sweep/bits_per_byte": row.bits_per_byte})
            self.update(finished=True)
        tracker.finish(status)

    def result(self) -> SweepResult:
        """Where the runs stand."""
        return sweep_result(self.home, self.sweep, self.problems)


def sweep_card(sweep: Sweep) -> RunCard:
    """The card of the whole: what its runs share, and of each key that is swept all values."""
    first = sweep.runs[0]
    card = run_card(sweep.sweep_id, first.recipe)
    swept = {key: ", ".join(dict.fromkeys(run.settings[key] for run in sweep.runs)) for key in first.settings}
    tags = {name: value for name, value in card.tags.items() if name != "recipe_digest"}
    return replace(card, parameters={**card.parameters, **swept}, tags={**tags, "sweep": ", ".join(swept)})


def settings_text(run: SweepRun) -> str:
    """The settings as they would be typed after --set."""
    return " ".join(f"{key}={value}" for key, value in run.settings.items())


def free_memory() -> None:
    """Give back what the run before held on the card: the base is loaded anew for each."""
    optimisers = sys.modules.get("bitsandbytes.optim")
    if optimisers is not None:
        # its table of modules that want 32-bit states keeps the embedding of every model that was trained
        optimisers.GlobalOptimManager.get_instance().module_weight_config_triple.clear()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
