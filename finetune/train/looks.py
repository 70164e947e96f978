"""Looks at the held-out sample during training: when they are due, what they found, and when to stop by them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import RunError
from finetune.contracts.io import read_model, write_json
from finetune.model.lora import load_trained
from finetune.recipe.schema import TrainSection
from finetune.terminal.output import note
from finetune.tracking.base import Tracker
from finetune.train.checkpoints import CheckpointStore
from finetune.train.data import HeldoutLoss

# part of each checkpoint of a run that may stop early, so that a resumed run has looked at what the unbroken one had
LOOKS_NAME = "looks.json"


class Look(Contract):
    """What the held-out sample came to after step; 0 is before the first. loss is in nats per learned token."""

    step: int = Field(ge=0)
    loss: float
    bits_per_byte: float


class LookRecord(Contract):
    """The looks up to the step of a checkpoint, oldest first."""

    schema_version: Literal[1] = 1
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class Chosen:
    """The step whose weights are exported, and what the held-out sample came to then; None: nothing is held out."""

    step: int
    bits_per_byte: float | None


@dataclass(frozen=True)
class Advice:
    """What the loop should do after a step."""

    save: bool = False
    stop: bool = False


class Looks:
    """The looks of one run. Where score is None, nothing is held out and none is made.

    By the train section one is made before the first step and one after the last, and with evaluate_every_steps also
    in between. Only with stop_after_worse is there a best one: that of the fewest bits per byte after a step.
    """

    def __init__(self, score: Callable[[], HeldoutLoss] | None, section: TrainSection, tracker: Tracker) -> None:
        self.made: list[Look] = []
        # replaced where a bar stands on the terminal
        self.tell: Callable[[str], object] = note
        self._score = score
        self._every = section.evaluate_every_steps
        self._patience = section.stop_after_worse
        self._tracker = tracker

    def look(self, step: int) -> None:
        """Score the sample, tell and track it; once for a step."""
        if self._score is None or (self.made and self.made[-1].step == step):
            return
        found = self._score()
        self.made.append(Look(step=step, loss=found.loss, bits_per_byte=found.bits_per_byte))
        self.tell(f"Held-out sample at step {step}: {found.bits_per_byte:.3f} bits per byte, loss {found.loss:.3f}")
        self._tracker.metrics(step, {"eval/loss": found.loss, "eval/bits_per_byte": found.bits_per_byte})

    def after_step(self, step: int, *, last: bool) -> Advice:
        """Look if it is time to; the step of the best look is saved, and too many that are no better end training."""
        if self._every is None or not (last or step % self._every == 0):
            return Advice()
        self.look(step)
        best = self.best()
        return Advice(save=best is not None and best.step == step, stop=self.stopped)

    @property
    def stopped(self) -> bool:
        """Whether as many looks as stop_after_worse says have come after the best one."""
        best = self.best()
        if best is None or self._patience is None:
            return False
        return sum(look.step > best.step for look in self.made) >= self._patience

    @property
    def before(self) -> float | None:
        """Bits per byte before the first step, None where that look is not known."""
        return self.made[0].bits_per_byte if self.made and self.made[0].step == 0 else None

    def ranked(self, *, until: float = math.inf) -> list[Look]:
        """The looks after a step up to until, the best first, of equals the earlier; none without stop_after_worse."""
        if self._patience is None:
            return []
        found = [look for look in self.made if 0 < look.step <= until]
        return sorted(found, key=lambda look: look.bits_per_byte if math.isfinite(look.bits_per_byte) else math.inf)

    def best(self, *, until: float = math.inf) -> Look | None:
        """The first of ranked."""
        return next(iter(self.ranked(until=until)), None)

    def best_step(self, step: int) -> int | None:
        """The step whose checkpoint must stay as long as that of step does, None where there is none."""
        found = self.best(until=step)
        return found.step if found else None

    def report(self, chosen: Look, steps_done: int) -> None:
        """Tell and track the look whose weights are exported."""
        text = f"The adapter is that of step {chosen.step} of {steps_done}: {chosen.bits_per_byte:.3f} bits per byte."
        if self.before is not None and chosen.bits_per_byte >= self.before:
            text += " It is no better than the base on this sample: lower train.learning_rate, or look at the data."
        self.tell(text)
        self._tracker.metrics(chosen.step, {"eval/best_bits_per_byte": chosen.bits_per_byte})

    def write(self, folder: Path) -> None:
        """Put the looks into the folder of a checkpoint, if training may stop by them."""
        if self._patience is not None:
            write_json(folder / LOOKS_NAME, LookRecord(looks=tuple(self.made)))

    def restore(self, folder: Path) -> None:
        """Go on from the looks of a checkpoint."""
        if self._patience is not None:
            hint = "Start a new run: finetune train RECIPE"
            self.made = [*read_model(folder / LOOKS_NAME, LookRecord, error=RunError, hint=hint).looks]


def choose_weights(model: Any, looks: Looks, store: CheckpointStore, *, steps_done: int) -> Chosen:
    """Look once more after the last step; where training may stop by looks, give the model the weights of the best.

    One whose checkpoint is damaged is passed over with a note. Raises RunError when no look's checkpoint is whole.
    """
    if not looks.made or looks.made[-1].step < steps_done:
        looks.look(steps_done)
    last = looks.made[-1].bits_per_byte if looks.made else None
    ranked = looks.ranked()
    if not ranked:
        return Chosen(steps_done, last)
    for look in ranked:
        checkpoint = store.at(look.step)
        if checkpoint is not None:
            load_trained(model, checkpoint.folder)
            looks.report(look, steps_done)
            return Chosen(look.step, look.bits_per_byte)
    raise RunError(
        f"None of the checkpoints in {store.root} that the held-out sample was looked at with is whole.",
        "Start a new run: finetune train RECIPE",
    )


def num_looks(section: TrainSection, num_steps: int) -> int:
    """Looks of a run of num_steps that does not stop early: before the first step, in between, after the last."""
    between = 0 if section.evaluate_every_steps is None else (num_steps - 1) // section.evaluate_every_steps
    return between + 2
