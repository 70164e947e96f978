"""What a run will take, told before its first step, and how far that was off, told after its last."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import RunError
from finetune.contracts.io import read_model, write_json
from finetune.model.delta_layers import uses_fused_kernels
from finetune.model.loading import LoadedBase
from finetune.model.shape import read_shape
from finetune.plan.machine import MIB, Card, recognise
from finetune.plan.report import gib
from finetune.plan.speed import HIGH_UTILISATION, LOW_UTILISATION
from finetune.plan.workload import recipe_workload
from finetune.recipe.resolve import ResolvedRecipe
from finetune.render.rows import TokenRow
from finetune.terminal.output import note
from finetune.terminal.progress import format_seconds
from finetune.tracking.base import Tracker
from finetune.tracking.figures import DATA_SHEET_PEAK, MEASURED_PEAK, MEMORY_ERROR, TIME_ERROR
from finetune.tracking.summary import TrainingFigures, forecast_text, utilisation_text
from finetune.train.matmul import matmul_tflops
from finetune.train.order import RowOrder
from finetune.train.preflight import (
    held_tokens,
    is_worth_it,
    longest_pass,
    pass_workload,
    planned_bytes,
    rehearse,
    states_bytes,
    too_small,
)
from finetune.train.utilisation import Utilisation, Work, pass_work, row_work, step_work

RunPass = Callable[[int], None]
# There is no card, so nothing is known of its memory and of its data sheet's peak
CPU = Card("CPU", 0, None)


class Compared(Contract):
    """A figure that was forecast, and what came out: None until it is known. + is a forecast that was too high."""

    forecast: float
    actual: float | None = None
    error_percent: float | None = None

    def beside(self, actual: float) -> "Compared":
        """The same with what came out."""
        return Compared(forecast=self.forecast, actual=actual, error_percent=100 * (self.forecast / actual - 1))


class RunForecast(Contract):
    """forecast.json of a run.

    Peaks are in 10^12 bfloat16 operations a second; that of the data sheet is None for a CPU and for an unknown card,
    and so is plan_seconds, the slow and the fast end of the plan. Of the preflight: how long the longest pass took, the
    operations a second that it carried out, and what PyTorch held on a GPU; None where it was not run. seconds are
    those of training, evaluation and saves left out; memory_gib is what PyTorch holds at the most by the plan, None on
    a CPU. What came out is that of the last process, for its own steps.
    """

    schema_version: Literal[1] = 1
    device: str
    measured_peak_tflops: float
    data_sheet_peak_tflops: float | None
    num_tokens: int
    longest_pass_tokens: int
    plan_seconds: tuple[float, float] | None
    preflight_seconds: float | None = None
    preflight_operations_per_second: float | None = None
    preflight_gib: float | None = None
    seconds: Compared | None = None
    memory_gib: Compared | None = None


class Forecaster:
    """Works out what the rows in this order take over a loaded base, and keeps it in file."""

    def __init__(
        self, resolved: ResolvedRecipe, rows: Sequence[TokenRow], *, order: RowOrder, base: LoadedBase, file: Path
    ) -> None:
        device = base.device
        train, lora = resolved.train, resolved.lora
        self._file, self._order, self._device, self._card = file, order, device, _card(device)
        self._wanted = train.preflight and is_worth_it(order, device)
        work = recipe_workload(resolved.base, lora, data=resolved.data, train=train, evaluate=resolved.evaluate)
        self._recipe_work = replace(work, packed=order.packed, fast_kernels=uses_fused_kernels(base.model))
        self._shape = read_shape(Path(resolved.base.path), targets=lora.targets, rank=lora.rank)
        lengths = [len(row.input_ids) for row in rows]
        self._longest = longest_pass(order, lengths)
        self._longest_tokens = held_tokens(order, lengths, self._longest)
        self._pass_work = pass_workload(self._recipe_work, order, lengths, number=self._longest)
        cost = row_work(
            self._shape,
            targets=lora.targets,
            rank=lora.rank,
            checkpointing=train.activation_checkpointing,
            # where there is no Triton, TRL scores what is not learned too
            scores_all=device == "cpu",
        )
        self._passes = pass_work(rows, order, cost)
        peak = matmul_tflops(device) * train.num_processes
        self.utilisation = Utilisation(step_work(self._passes, order.passes_per_step), peak)
        self.forecast = self._before()

    def rehearsal(self, start_at: int, *, tell: Callable[[str], object]) -> Callable[[RunPass], None] | None:
        """What to call before the first step.

        None where no pass is run: by the recipe, in short runs on a CPU, and in a run that goes on, which keeps the
        forecast that it began with.
        """
        if start_at > 0:
            self.forecast = self._first_forecast()
        if start_at > 0 or not self._wanted:
            return None

        def rehearsed(run_pass: RunPass) -> None:
            self._rehearse(run_pass)
            write_json(self._file, self.forecast)
            tell(self._text())

        return rehearsed

    def compare(self, figures: TrainingFigures | None, tracker: Tracker, *, start_at: int) -> TrainingFigures | None:
        """The figures of the steps since start_at with what is known of machine and forecast; told and recorded."""
        if figures is None:
            return None
        self.forecast = self._beside(figures, start_at)
        write_json(self._file, self.forecast)
        time, memory = self.forecast.seconds, self.forecast.memory_gib
        known = replace(
            figures,
            measured_peak_tflops=self.utilisation.peak_tflops,
            data_sheet_peak_tflops=self._card.peak_tflops,
            time_error_percent=time.error_percent if time else None,
            memory_error_percent=memory.error_percent if memory else None,
        )
        tracker.artifact(self._file)
        tracker.metrics(figures.steps, _metrics(known))
        for text in filter(None, (utilisation_text(known), forecast_text(known))):
            note(text[0].upper() + text[1:] + ".")
        return known

    def _before(self) -> RunForecast:
        total = sum(self._passes, Work())
        peak = self._card.peak_tflops
        # with the whole peak
        least = None if peak is None else total.done / (peak * 1e12)
        on_gpu = self._device == "cuda"
        return RunForecast(
            device=self._card.name,
            measured_peak_tflops=self.utilisation.peak_tflops,
            data_sheet_peak_tflops=peak,
            num_tokens=total.tokens,
            longest_pass_tokens=self._longest_tokens,
            plan_seconds=None if least is None else (least / LOW_UTILISATION, least / HIGH_UTILISATION),
            memory_gib=Compared(forecast=gib(planned_bytes(self._shape, self._pass_work))) if on_gpu else None,
        )

    def _first_forecast(self) -> RunForecast:
        try:
            return read_model(self._file, RunForecast, error=RunError, hint="")
        except RunError:
            # of a run that began before there were forecasts; nothing depends on it
            return self.forecast

    def _rehearse(self, run_pass: RunPass) -> None:
        states = states_bytes(self._shape, self._pass_work)
        try:
            found = rehearse(lambda: run_pass(self._longest), device=self._device, states=states)
        except torch.OutOfMemoryError as cause:
            first_line = str(cause).splitlines()[0]
            raise too_small(
                self._shape, self._recipe_work, self._card, pass_tokens=self._longest_tokens, cause=first_line
            ) from cause
        speed = self._passes[self._longest].done / found.seconds
        self.forecast = self.forecast.model_copy(
            update={
                "preflight_seconds": found.seconds,
                "preflight_operations_per_second": speed,
                "preflight_gib": None if found.peak_bytes is None else gib(found.peak_bytes),
                "seconds": Compared(forecast=sum(self._passes, Work()).done / speed),
            }
        )

    def _beside(self, figures: TrainingFigures, start_at: int) -> RunForecast:
        changes: dict[str, Compared] = {}
        speed = self.forecast.preflight_operations_per_second
        if speed is not None:
            work = sum(self.utilisation.steps[start_at : figures.steps], Work())
            changes["seconds"] = Compared(forecast=work.done / speed).beside(figures.seconds)
        if self.forecast.memory_gib is not None:
            changes["memory_gib"] = self.forecast.memory_gib.beside(gib(figures.peak_memory_bytes))
        return self.forecast.model_copy(update=changes)

    def _text(self) -> str:
        found = self.forecast
        assert found.preflight_seconds is not None and found.seconds is not None
        speed = self._passes[self._longest].tokens / found.preflight_seconds
        parts = [
            f"Longest pass: {self._longest_tokens:,} tokens in {found.preflight_seconds:.2f} s, {speed:,.0f} tokens/s"
        ]
        if found.memory_gib is not None and found.preflight_gib is not None:
            error = 100 * (found.memory_gib.forecast / found.preflight_gib - 1)
            parts.append(
                f"{found.preflight_gib:.2f} GiB held, {found.memory_gib.forecast:.2f} by the plan ({error:+.1f} %)"
            )
        pace = f"At this pace {found.num_tokens:,} tokens take about {format_seconds(found.seconds.forecast)}"
        return "; ".join(parts) + f". {pace}."


def _card(device: str) -> Card:
    if device == "cpu":
        return CPU
    found = torch.cuda.get_device_properties(0)
    return recognise(found.name, found.total_memory // MIB)


def _metrics(figures: TrainingFigures) -> dict[str, float]:
    found = {
        MEASURED_PEAK: figures.measured_peak_tflops,
        DATA_SHEET_PEAK: figures.data_sheet_peak_tflops,
        TIME_ERROR: figures.time_error_percent,
        MEMORY_ERROR: figures.memory_error_percent,
    }
    return {name: value for name, value in found.items() if value is not None}
