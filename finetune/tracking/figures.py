"""What training came to, read back from a run's journal: evaluation writes it beside the scores."""

from collections.abc import Sequence
from pathlib import Path

from finetune.tracking.jsonl import Entry, parse
from finetune.tracking.summary import TrainingFigures, loss_ends

Point = tuple[str, int, float]
LOSS = "train/loss"
SPEED = "train/tokens_per_second"
MEMORY = "system/memory_gib"
# percent of the peak that matmul_tflops measured; "hardware" counts what is computed again in backward
MODEL_UTILISATION = "train/model_flop_utilisation_percent"
HARDWARE_UTILISATION = "train/hardware_flop_utilisation_percent"
MEASURED_PEAK, DATA_SHEET_PEAK = "system/measured_peak_tflops", "system/data_sheet_peak_tflops"
TIME_ERROR, MEMORY_ERROR = "system/forecast_time_error_percent", "system/forecast_memory_error_percent"
# points of two processes, or of one that slept, lie further apart than this; the gap was no training
LONGEST_STEP_MS = 30 * 60 * 1000


def training_figures(journal: Path) -> TrainingFigures | None:
    """The figures of all processes that trained the run; None where the journal holds no training loss."""
    if not journal.is_file():
        return None
    entries = parse(journal.read_bytes())
    points = [point for entry in entries for point in entry.points()]
    losses = dict(sorted((step, value) for name, step, value in points if name == LOSS))
    if not losses:
        return None
    first_loss, last_loss = loss_ends(list(losses.values()))
    memory = max(_values(points, MEMORY), default=0.0)
    return TrainingFigures(
        steps=max(losses),
        seconds=_training_ms(entries) / 1000,
        first_loss=first_loss,
        last_loss=last_loss,
        tokens_per_second=_mean(_values(points, SPEED)),
        peak_memory_bytes=round(memory * 2**30),
        utilisation_percent=_mean(_values(points, MODEL_UTILISATION)),
        measured_peak_tflops=_last(_values(points, MEASURED_PEAK)) or 0.0,
        data_sheet_peak_tflops=_last(_values(points, DATA_SHEET_PEAK)),
        time_error_percent=_last(_values(points, TIME_ERROR)),
        memory_error_percent=_last(_values(points, MEMORY_ERROR)),
    )


def _values(points: Sequence[Point], wanted: str) -> list[float]:
    return [value for name, _, value in points if name == wanted]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _last(values: Sequence[float]) -> float | None:
    return values[-1] if values else None


def _training_ms(entries: list[Entry]) -> int:
    total, before = 0, None
    for entry in entries:
        if any(name == LOSS for name, _, _ in entry.points()):
            if before is not None and entry.at_ms - before <= LONGEST_STEP_MS:
                total += entry.at_ms - before
            before = entry.at_ms
        elif entry.kind in ("start", "opened"):
            before = entry.at_ms
    return total
