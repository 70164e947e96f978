"""What a training loop on the bench works with: a watcher with a clock, and a store that keeps nothing."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from finetune.contracts.dataset import Task
from finetune.render.rows import TokenRow
from finetune.train.checkpoints import CheckpointStore, Subject


class Clock:
    """A StepWatcher that notes when each step was done, and its loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def begun(self) -> None:
        pass

    def step_done(self, step: int, loss: float) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.monotonic())
        self.losses.append(loss)

    def logged(self, step: int, *, loss: float, learning_rate: float, gradient_norm: float) -> None:
        pass

    def saved(self, step: int) -> None:
        pass


class NoStore(CheckpointStore):
    """Keeps nothing: files are not what is measured."""

    def save(self, step: int, *, rows_done: int, write: Callable[[Path], None]) -> Path:
        return self.root


def no_store() -> NoStore:
    """A store of no run in particular."""
    return NoStore(Path(tempfile.gettempdir()), Subject(run_id="", base="", dataset="", recipe=""), keep=1)


def text_row(ids: Sequence[int]) -> TokenRow:
    """A row of which every token is learned but the first."""
    return TokenRow(
        example_id="",
        task=Task.PRETRAIN,
        input_ids=tuple(ids),
        labels=(-100, *ids[1:]),
        num_loss_tokens=len(ids) - 1,
        loss_bytes=len(ids),
    )
