"""Pretraining of the embedded base: Muon on the matrices, AdamW on the rest, continued exactly from its last save."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.embedded.forward import TrainingForward

STEP_SIZES = (0.001, 0.1)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. One step is batch_rows rows of row_tokens targets."""

    steps: int = 1700
    # from this step on the rows are mostly infill
    infill_step: int = 400
    batch_rows: int = 4
    row_tokens: int = 1024
    warmup_steps: int = 40
    # Constant, then linear to zero over this share (arXiv 2405.18392)
    decay_share: float = 0.73
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    save_every: int = 350
    seed: int = 0

    def rate(self, step: int) -> float:
        """Factor on the learning rate at a step, counted from 0."""
        decay_from = self.steps * (1 - self.decay_share)
        return min(1.0, (step + 1) / self.warmup_steps, (self.steps - step) / (self.steps - decay_from))


def model_config() -> Any:
    """8 layers of the Qwen3.5 text architecture, 8.1 M parameters; every matrix is a whole number of 4-bit blocks."""
    from transformers.models.qwen3_5 import Qwen3_5TextConfig

    return Qwen3_5TextConfig(
        vocab_size=8192,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=64,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=64,
        linear_value_head_dim=64,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.25,
            "mrope_section": [3, 3, 2],
            "mrope_interleaved": True,
        },
        bos_token_id=None,
        eos_token_id=8181,
        pad_token_id=8181,
    )


def new_model(seed: int) -> Any:
    """Random weights, seeded."""
    from transformers import Qwen3_5ForCausalLM

    torch.manual_seed(seed)
    model = Qwen3_5ForCausalLM(model_config())
    for name, parameter in model.named_parameters():
        if name.endswith(".dt_bias"):
            _start_remembering(parameter)
    return model


@torch.no_grad()
def _start_remembering(dt_bias: torch.nn.Parameter) -> None:
    """Step sizes log-uniform in STEP_SIZES, as softplus(dt_bias): heads forget within a word up to within a file.

    Source: Mamba 2 and the reference Gated DeltaNet (arXiv 2412.06464). The library sets dt_bias to 1, which published
    weights overwrite: with it each head forgets everything within a token or two, and training does not cure that.
    """
    low, high = map(math.log, STEP_SIZES)
    steps = torch.exp(low + (high - low) * torch.rand(dt_bias.shape))
    dt_bias.copy_(steps + torch.log(-torch.expm1(-steps)))


class Pretraining:
    """One training run over packed rows [rows, row_tokens + 1], continued from folder's newest save if it has one.

    weights [rows, row_tokens] say how much each target counts in the loss.
    """

    def __init__(
        self,
        rows: "np.ndarray[Any, np.dtype[np.uint16]]",
        weights: "np.ndarray[Any, np.dtype[np.float32]]",
        schedule: Schedule,
        folder: Path,
        *,
        compiled: bool = True,
    ) -> None:
        self.rows, self.weights, self.schedule, self.folder, self.compiled = rows, weights, schedule, folder, compiled
        self.model = new_model(schedule.seed)
        matrices, others = split_parameters(self.model)
        rate, decay = schedule.learning_rate, schedule.weight_decay
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
        )
        self.step = 0
        self.seconds = 0.0
        if self._save_path.exists():
            self._load()

    @property
    def _save_path(self) -> Path:
        return self.folder / "training.pt"

    def run(self, *, measure: Callable[[Any], float], say: Callable[[str], None]) -> None:
        """Train to the end of the schedule; measure gives bits per byte of the model at each save."""
        forward = TrainingForward(self.model, compiled=self.compiled)
        begun, first, loss_sum = time.monotonic(), self.step, 0.0
        while self.step < self.schedule.steps:
            loss_sum += self._one_step(forward)
            self.step += 1
            if self.step % 20 == 0:
                spent = time.monotonic() - begun
                tokens = (self.step - first) * self.schedule.batch_rows * self.schedule.row_tokens
                say(f"step {self.step}/{self.schedule.steps} loss {loss_sum / 20:.3f} {tokens / spent:.0f} tokens/s")
                loss_sum = 0.0
            if self.step % self.schedule.save_every == 0 or self.step == self.schedule.steps:
                self.seconds += time.monotonic() - begun
                begun, first = time.monotonic(), self.step
                self._save()
                say(f"step {self.step} held-out sample: {measure(self.model):.3f} bits per byte")

    def _one_step(self, forward: TrainingForward) -> float:
        start = self.step * self.schedule.batch_rows
        batch = slice(start, start + self.schedule.batch_rows)
        rows, weights = self.rows[batch].astype(np.int64), self.weights[batch]
        loss = forward.loss(torch.from_numpy(rows), torch.from_numpy(weights))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.max_grad_norm)
        factor = self.schedule.rate(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.schedule.learning_rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        if not math.isfinite(value):
            raise RuntimeError(f"the loss is {value} at step {self.step}")
        return value

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
            "schedule": json.dumps(asdict(self.schedule)),
        }
        temporary = self._save_path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self._save_path)

    def _load(self) -> None:
        state = torch.load(self._save_path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]


def split_parameters(model: Any) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The matrices inside the layers, which Muon may orthogonalise, and everything else, tied weights once."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = ".layers." in name and parameter.ndim == 2 and min(parameter.shape) >= 64
        (matrices if inside else others).append(parameter)
    return matrices, others
