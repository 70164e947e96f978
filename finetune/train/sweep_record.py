"""The documents of a sweep: sweep.json in its folder, and what each run came to."""

from collections.abc import Mapping
from typing import Literal

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import RunError
from finetune.contracts.io import read_model
from finetune.contracts.run import Home, RunLayout
from finetune.recipe.resolve import ResolvedRecipe
from finetune.terminal.output import table
from finetune.train.run_folder import read_state

HINT = "`finetune runs list` shows the runs of this home."
Status = Literal["not begun", "running", "finished", "failed", "interrupted", "diverged"]


class SweepRun(Contract):
    """One run of a sweep. settings are its values by key, as typed; diverged says how it went out of hand."""

    run_id: str
    settings: dict[str, str]
    recipe: ResolvedRecipe
    diverged: str | None = None


class Sweep(Contract):
    """What sweep.json holds. finished: every run is done and the record is closed."""

    schema_version: Literal[1] = 1
    sweep_id: str
    dataset_digest: str
    tracking_run_id: str | None = None
    finished: bool = False
    runs: tuple[SweepRun, ...]


class SweepRow(Contract):
    """What one run came to. bits_per_byte is on the held-out sample, with the weights of adapter_step; None: not yet.
    bits_per_byte_before is the base's.

    problem is why it has no adapter, None where it has one or was not begun.
    """

    run_id: str
    settings: dict[str, str]
    status: Status
    steps_done: int = 0
    steps_total: int = 0
    adapter_step: int | None = None
    bits_per_byte_before: float | None = None
    bits_per_byte: float | None = None
    adapter_id: str | None = None
    problem: str | None = None


class SweepResult(Contract):
    """The runs of a sweep in the order they were trained, and the id of the best, None while none is finished."""

    sweep_id: str
    best: str | None
    rows: tuple[SweepRow, ...]

    @property
    def failed(self) -> tuple[SweepRow, ...]:
        """Runs that ended in an error which another try may not meet."""
        return tuple(row for row in self.rows if row.status == "failed")

    @property
    def worse_than_base(self) -> bool:
        """Whether even the best run needs as many bits per byte as the base, or more."""
        best = next((row for row in self.rows if row.run_id == self.best), None)
        if best is None or best.bits_per_byte is None or best.bits_per_byte_before is None:
            return False
        return best.bits_per_byte >= best.bits_per_byte_before

    def at_the_edge(self) -> tuple[str, ...]:
        """Keys of three numbers or more of which the best run has the smallest or the largest."""
        best = next((row for row in self.rows if row.run_id == self.best), None)
        if best is None:
            return ()
        found = {key: {number(row.settings[key]) for row in self.rows} for key in best.settings}
        numbers = {key: [value for value in values if value is not None] for key, values in found.items()}
        return tuple(
            key
            for key, values in numbers.items()
            if len(values) > 2 and number(best.settings[key]) in (min(values), max(values))
        )

    def text(self) -> str:
        """A table of the runs, the best one marked."""
        keys = list(self.rows[0].settings)
        header = (*keys, "bits/byte", "of step", "status", "run", "")
        rows = [
            (
                *(row.settings[key] for key in keys),
                "" if row.bits_per_byte is None else f"{row.bits_per_byte:.4f}",
                "" if row.adapter_step is None else f"{row.adapter_step:,}",
                row.status,
                row.run_id,
                "best" if row.run_id == self.best else "",
            )
            for row in self.rows
        ]
        before = next((row.bits_per_byte_before for row in self.rows if row.bits_per_byte_before is not None), None)
        if before is not None:
            rows.insert(0, (*("" for _ in keys), f"{before:.4f}", "0", "", "before training", ""))
        return table(rows, header=header)


def number(text: str) -> float | None:
    """The number that text spells, None for a word."""
    try:
        return float(text)
    except ValueError:
        return None


def read_sweep(home: Home, sweep_id: str) -> Sweep:
    """sweep.json of a sweep. Raises RunError when it is missing or damaged."""
    return read_model(sweep_layout(home, sweep_id).sweep, Sweep, error=RunError, hint=HINT)


def sweep_layout(home: Home, sweep_id: str) -> RunLayout:
    """The folder of a sweep, or of one of its runs: they lie side by side."""
    return RunLayout(home.runs.resolve() / sweep_id)


def sweep_result(home: Home, sweep: Sweep, problems: Mapping[str, str]) -> SweepResult:
    """Where the runs stand by their run.json. problems are errors by run id that this process met."""
    rows = tuple(_row(home, run, problems.get(run.run_id)) for run in sweep.runs)
    done = [row for row in rows if row.status == "finished" and row.bits_per_byte is not None]
    best = min(done, key=lambda row: row.bits_per_byte or 0.0).run_id if done else None
    return SweepResult(sweep_id=sweep.sweep_id, best=best, rows=rows)


def _row(home: Home, run: SweepRun, problem: str | None) -> SweepRow:
    layout = sweep_layout(home, run.run_id)
    if not layout.state.is_file():
        status: Status = "failed" if problem else "not begun"
        return SweepRow(run_id=run.run_id, settings=run.settings, status=status, problem=problem)
    state = read_state(layout)
    return SweepRow(
        run_id=run.run_id,
        settings=run.settings,
        status="diverged" if run.diverged else state.status,
        steps_done=state.steps_done,
        steps_total=state.steps_total,
        adapter_step=state.adapter_step,
        bits_per_byte_before=state.bits_per_byte_before,
        bits_per_byte=state.bits_per_byte,
        adapter_id=state.adapter_id,
        problem=run.diverged or problem,
    )
