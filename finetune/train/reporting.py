"""What a person and the tracker see of training: one bar, and metrics at every logged step."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from finetune.terminal.progress import Progress
from finetune.tracking.base import Tracker
from finetune.tracking.figures import HARDWARE_UTILISATION, MODEL_UTILISATION
from finetune.tracking.summary import TrainingFigures, loss_ends
from finetune.train.utilisation import Utilisation


class StepWatcher(Protocol):
    """Told of each optimiser step by the training loop."""

    def begun(self) -> None:
        """All is ready: the next thing is the first step of this process."""
        ...

    def step_done(self, step: int, loss: float) -> None:
        """step optimiser steps are done; loss is the last one's mean per learned token, in nats."""
        ...

    def logged(self, step: int, *, loss: float, learning_rate: float, gradient_norm: float) -> None:
        """Figures of the steps since the last call; loss is their mean."""
        ...

    def saved(self, step: int) -> None:
        """A checkpoint of step is on disk."""
        ...


class Reporter:
    """A StepWatcher that moves the bar and feeds the tracker.

    step_tokens holds the tokens of each step of the whole run, start_at the steps that an earlier process did; on_saved
    is called with the step of each checkpoint. utilisation knows the operations of each step, None where nothing does.
    """

    def __init__(
        self,
        tracker: Tracker,
        progress: Progress,
        *,
        step_tokens: Sequence[int],
        on_saved: Callable[[int], object],
        start_at: int = 0,
        utilisation: Utilisation | None = None,
    ) -> None:
        self._tracker = tracker
        self._on_saved = on_saved
        self._progress = progress
        self._step_tokens = step_tokens
        self._start_at = start_at
        self._utilisation = utilisation
        self._started = self._logged_at = time.monotonic()
        self._logged_step = start_at
        self._losses: list[float] = []

    def begun(self) -> None:
        self._started = self._logged_at = time.monotonic()
        forget_peak_memory()

    def step_done(self, step: int, loss: float) -> None:
        speed = self._speed(self._start_at, step, self._started)
        self._progress.update(step, f"loss {loss:.3f}  {speed:,.0f} tokens/s")

    def logged(self, step: int, *, loss: float, learning_rate: float, gradient_norm: float) -> None:
        self._losses.append(loss)
        self._tracker.metrics(
            step,
            {
                "train/loss": loss,
                "train/learning_rate": learning_rate,
                "train/gradient_norm": gradient_norm,
                "train/tokens_per_second": self._speed(self._logged_step, step, self._logged_at),
                **self._shares(step),
                "system/memory_gib": peak_memory_bytes() / 2**30,
            },
        )
        self._logged_step, self._logged_at = step, time.monotonic()

    def saved(self, step: int) -> None:
        self._on_saved(step)

    def figures(self, step: int) -> TrainingFigures | None:
        """What this process' part of training came to; None when it logged nothing."""
        if not self._losses:
            return None
        first_loss, last_loss = loss_ends(self._losses)
        seconds = time.monotonic() - self._started
        model = self._utilisation.percent(self._start_at, step, seconds)[0] if self._utilisation else 0.0
        return TrainingFigures(
            steps=step,
            seconds=seconds,
            first_loss=first_loss,
            last_loss=last_loss,
            tokens_per_second=self._speed(self._start_at, step, self._started),
            peak_memory_bytes=peak_memory_bytes(),
            utilisation_percent=model,
        )

    def _shares(self, step: int) -> dict[str, float]:
        if self._utilisation is None:
            return {}
        seconds = time.monotonic() - self._logged_at
        model, hardware = self._utilisation.percent(self._logged_step, step, seconds)
        return {MODEL_UTILISATION: model, HARDWARE_UTILISATION: hardware}

    def _speed(self, first: int, last: int, since: float) -> float:
        return sum(self._step_tokens[first:last]) / max(1e-6, time.monotonic() - since)


def forget_peak_memory() -> None:
    """Let the GPU's peak begin anew; that of a process cannot."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_bytes() -> int:
    """The most memory held so far: of the GPU since the first step where one is in use, else of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
