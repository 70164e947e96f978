"""Recipe: what a user may say about a run, each value with its bounds and its meaning. Extra keys are errors."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from finetune.contracts.adapter import Quantization
from finetune.contracts.egress import EgressMode

EMBEDDED_BASE = "embedded"
# On one card this takes years; it bounds the memory of the order of rows
MAX_TOKEN_BUDGET = 10**11
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """Base of the recipe's parts: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseSection(Section):
    """The base model."""

    path: str = Field(
        description="Folder of the base model on disk, the name of one that `finetune base add` brought in, or "
        '"embedded" for the small one that ships here.'
    )
    quantization: Quantization = Field(
        default=Quantization.NF4, description="nf4: 4-bit NormalFloat with double quantization; none: 16-bit."
    )
    embedding_on_host: bool = Field(
        default=False, description="Keep the embedding in host memory: rows' vectors are gathered there. GPU only."
    )
    cache: bool = Field(
        default=True, description="Keep a 4-bit copy of a base above 4 GB in the home, for the next start."
    )


class TaskWeights(Section):
    """How often each task's rows are seen in an epoch: 1 shows each row once, 0 leaves the task out."""

    infill: float = Field(default=1.0, ge=0, le=20)
    docstring: float = Field(default=1.0, ge=0, le=20)
    commit_edit: float = Field(default=1.0, ge=0, le=20)
    pretrain: float = Field(default=1.0, ge=0, le=20)
    repo_infill: float = Field(default=1.0, ge=0, le=20)
    describe: float = Field(default=1.0, ge=0, le=20)
    search_replace: float = Field(default=1.0, ge=0, le=20)
    tests: float = Field(default=1.0, ge=0, le=20)
    review_fix: float = Field(default=1.0, ge=0, le=20)
    qa: float = Field(default=1.0, ge=0, le=20)

    @model_validator(mode="after")
    def _some_task(self) -> Self:
        if not any(weight for _, weight in self):
            raise ValueError("every task has weight 0, so there is nothing to learn from")
        return self


class DataSection(Section):
    """Which dataset, and how its rows become token sequences."""

    dataset: str | None = Field(
        default=None,
        description="Folder made by `finetune data build`. None: it must come from --set data.dataset=DIR.",
    )
    max_tokens: int = Field(
        default=2048, ge=64, le=262_144, description="Tokens in a row; what does not fit is counted."
    )
    tasks: TaskWeights = Field(default=TaskWeights(), description="Weight of each task's rows.")


class LoraSection(Section):
    """The adapter."""

    rank: int = Field(default=16, ge=1, le=1024, description="Rank of the two factors.")
    alpha: float = Field(default=32.0, gt=0, le=4096, description="Scale: the update is multiplied by alpha / rank.")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Share of the adapter's input set to zero.")
    rank_stabilized: bool = Field(default=False, description="Scale by alpha / sqrt(rank) instead (arXiv 2312.03732).")
    targets: str | None = Field(
        default=None, description="A preset of the family, such as attention+mlp. None: its first."
    )


class TrainSection(Section):
    """The optimisation. One step is micro_batch x accumulation rows."""

    learning_rate: float = Field(default=1e-4, gt=0, le=1e-1, description="Peak learning rate.")
    schedule: Literal["cosine", "linear", "constant"] = Field(default="cosine", description="Shape after the warm-up.")
    warmup_share: Share = Field(default=0.03, description="Share of the steps over which the rate rises from 0.")
    epochs: float = Field(
        default=1.0, gt=0, le=100, description="Passes over the rows, where neither max_steps nor token_budget is set."
    )
    max_steps: int | None = Field(
        default=None, ge=1, description="Optimiser steps; rows begin again as often as it takes. None: as epochs says."
    )
    token_budget: int | None = Field(
        default=None,
        ge=1,
        le=MAX_TOKEN_BUDGET,
        description="Tokens to read, padding not counted: the step that reaches it is the last; rows begin again as "
        "often as it takes. None: as epochs says. Not with max_steps.",
    )
    micro_batch: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Rows in one forward pass, or what these could hold where rows are packed.",
    )
    accumulation: int = Field(default=16, ge=1, le=4096, description="Forward passes in one optimiser step.")
    num_processes: int = Field(
        default=1, ge=1, le=64, description="Processes that share the passes of each step, a card for each."
    )
    packing: bool = Field(
        default=True,
        description="Whole rows share a sequence, kept apart exactly; off, with a note, if a proof at start fails.",
    )
    sharding: Literal["none", "fsdp2"] = Field(
        default="none",
        description="none: each process holds the whole base (DDP). fsdp2: each holds a part of every layer; "
        "16-bit bases only.",
    )
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = Field(
        default="paged_adamw_8bit", description="paged_adamw_8bit keeps its state off a full card."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradients are scaled down to this norm.")
    activation_checkpointing: bool = Field(default=True, description="Recompute activations: slower, much less memory.")
    activation_offload: bool = Field(
        default=False, description="Keep what checkpointing saves in host memory meanwhile: 1 to 3 % slower. GPU only."
    )
    preflight: bool = Field(
        default=True,
        description="Run the longest pass before the first step, to forecast memory and time; on a CPU in long runs.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    save_every_steps: int = Field(default=50, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(default=2, ge=1, le=100, description="Newest checkpoints that stay on disk.")
    log_every_steps: int = Field(default=5, ge=1)
    evaluate_every_steps: int | None = Field(
        default=None,
        ge=1,
        description="Steps between looks at the held-out sample. None: one before the first step, one after the last.",
    )
    evaluate_tokens: int = Field(
        default=8192,
        ge=256,
        le=1_000_000,
        description="Tokens of the held-out sample: whole rows until so many are there. More tell finer differences.",
    )
    stop_after_worse: int | None = Field(
        default=None,
        ge=1,
        description="Stop after so many looks in a row that are no better than the best in bits per byte, and export "
        "the adapter of the best one. None: train to the end and export what is there.",
    )

    @model_validator(mode="after")
    def _passes_divide(self) -> Self:
        size, passes = self.num_processes, self.accumulation
        if passes % size:
            near = [str(value) for value in (passes - passes % size, passes + size - passes % size) if value]
            counts = ", ".join(str(count) for count in range(1, min(64, passes) + 1) if passes % count == 0)
            raise ValueError(
                f"accumulation {passes} does not divide by num_processes {size}: set accumulation to "
                f"{' or '.join(near)}, or num_processes to one of {counts}"
            )
        return self

    @model_validator(mode="after")
    def _sharding_needs_processes(self) -> Self:
        if self.sharding == "fsdp2" and self.num_processes == 1:
            raise ValueError("sharding fsdp2 spreads a base over processes, and num_processes is 1: set both or none")
        return self

    @model_validator(mode="after")
    def _offload_needs_checkpoints(self) -> Self:
        if self.activation_offload and not self.activation_checkpointing:
            raise ValueError("activation_offload keeps what activation_checkpointing saves, and that is switched off")
        return self

    @model_validator(mode="after")
    def _stopping_needs_looks(self) -> Self:
        if self.stop_after_worse is not None and self.evaluate_every_steps is None:
            raise ValueError("stop_after_worse counts looks at the held-out sample: set evaluate_every_steps too")
        return self

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.token_budget is not None and self.max_steps is not None:
            raise ValueError("token_budget and max_steps both say when training ends: set one of them")
        if self.token_budget is not None and self.epochs != 1:
            raise ValueError("token_budget and epochs both say when training ends: set one of them")
        return self


class EvaluateSection(Section):
    """Base against adapter on the held-out split."""

    max_rows: int = Field(
        default=400, ge=1, description="Held-out rows scored for bits per byte; more are left out by digest."
    )
    infill_rows: int = Field(default=100, ge=0, description="Held-out infill rows generated and compared; 0: none.")
    max_new_tokens: int = Field(default=64, ge=1, le=4096, description="Tokens generated for an infill answer.")
    leakage_rows: int = Field(
        default=100, ge=0, description="Trained passages, and secrets that redaction took out, asked for; 0: none."
    )
    retention_rows: int = Field(
        default=200, ge=1, description="General texts, instructions and functions, at most so many of each."
    )
    executed_tasks: int = Field(
        default=200, ge=0, description="Tasks that tests grade, drawn by digest; 0: none. More show finer differences."
    )
    executed_new_tokens: int = Field(default=512, ge=1, le=16_384, description="Tokens generated for such a task.")
    executed_samples: int = Field(
        default=0, ge=0, le=1000, description="Answers drawn for each of them beside the greedy one; 0: no pass@k."
    )
    executed_k: int = Field(default=5, ge=1, le=1000, description="The k of pass@k; at most executed_samples.")
    executed_temperature: float = Field(default=0.8, gt=0, le=2, description="Temperature at which they are drawn.")
    control_rows: int = Field(
        default=60,
        ge=0,
        description="Gaps at which the base sees files of the repository and the adapter none; 0: none.",
    )
    resamples: int = Field(default=2000, ge=100, le=100_000, description="Bootstrap resamples behind each interval.")
    batch_rows: int = Field(default=8, ge=1, le=1024, description="Rows scored or generated at once.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _k_of_samples(self) -> Self:
        if 0 < self.executed_samples < self.executed_k:
            raise ValueError(
                f"pass@{self.executed_k} needs as many answers: set executed_samples to {self.executed_k} or more, or "
                f"executed_k to {self.executed_samples} or less"
            )
        return self


class TrackSection(Section):
    """Where the run is recorded."""

    experiment: str = Field(default="finetune", min_length=1, max_length=200, description="MLflow experiment.")
    server: str | None = Field(
        default=None,
        pattern=r"^https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?/?$",
        description="Address of MLflow's server on this machine. None: the home's own store.",
    )
    adapter_name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Registered name. None: the recipe's name.",
    )


class Recipe(Section):
    """One training run as a user writes it; what is left out has the default that `finetune recipe show` prints."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Short name; the adapter is called after it."
    )
    description: str = Field(default="", description="One line for people.")
    base: BaseSection
    data: DataSection = DataSection()
    lora: LoraSection = LoraSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    track: TrackSection = TrackSection()
    egress: EgressMode = Field(
        default="fail", description="fail: a run during which something tried to leave has failed; warn: it says so."
    )

    @model_validator(mode="after")
    def _sharding_keeps_bits(self) -> Self:
        if self.train.sharding == "fsdp2" and self.base.quantization is Quantization.NF4:
            raise ValueError(
                "train.sharding: fsdp2 would change the bits of 4-bit weights on their way between cards, without a "
                "word (bitsandbytes issue 1945); keep sharding none, which holds a 4-bit base on each card"
            )
        return self
