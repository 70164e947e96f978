"""TRL's SFTTrainer with this project's rows, order, checkpoints and reporting. The only file that imports trl."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import torch
from accelerate.data_loader import prepare_data_loader
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTConfig, SFTTrainer

from finetune.contracts.adapter import ADAPTER_WEIGHTS_NAME
from finetune.contracts.errors import DivergedError, MachineError
from finetune.model.lora import TRAINED_ADAPTER, cast_trainables, load_trained
from finetune.model.packed import packed_inputs
from finetune.recipe.schema import TrainSection
from finetune.render.rows import TokenRow
from finetune.terminal.output import note
from finetune.train.checkpoints import Checkpoint, CheckpointStore, random_state_name
from finetune.train.interrupt import StopRequest
from finetune.train.looks import Advice, Looks
from finetune.train.order import RowOrder
from finetune.train.ranks import ALONE, Ranks
from finetune.train.reporting import StepWatcher
from finetune.train.schedule import rate_share
from finetune.train.shares import check_agreement, share_of, with_silent_row

OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit", "paged_adamw_8bit": "paged_adamw_8bit"}
NOT_FINITE_HINT = "Lower train.learning_rate, or raise train.warmup_share; checkpoints from before this step are whole."
# There is nothing to page out of a CPU's own memory
CPU_OPTIMIZERS = {**OPTIMIZERS, "paged_adamw_8bit": "adamw_bnb_8bit"}


@dataclass(frozen=True)
class LoopParts:
    """What the loop works with besides the model: where it saves, whom it tells, who may stop it, and beside whom.

    looks None: nothing is held out, or nobody looks. rehearsal is called before the first step with a function that
    runs a pass of the order, by number; None: no such.
    """

    store: CheckpointStore
    watcher: StepWatcher
    stop: StopRequest
    looks: Looks | None = None
    ranks: Ranks = ALONE
    rehearsal: Callable[[Callable[[int], None]], None] | None = None


class BridgedTrainer(SFTTrainer):
    """SFTTrainer that takes rows in a given order and keeps checkpoints in a CheckpointStore."""

    lr_scheduler: Any

    def __init__(
        self, *, order: RowOrder, share: RowOrder, section: TrainSection, parts: LoopParts, **kwargs: Any
    ) -> None:
        self.row_order = order
        self.share = share
        self.section = section
        self.parts = parts
        self.step_loss = 0.0
        super().__init__(**kwargs)
        # SFTTrainer has just cast the factors of a quantised model to bfloat16, in which small steps round to nothing
        cast_trainables(self.model)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        order = self.row_order
        return range(len(order.passes)) if order.packed else order.indices

    def get_train_dataloader(self) -> Any:
        share = self.share
        if self.parts.ranks.size == 1:
            return super().get_train_dataloader()
        batches = [(place,) for place in range(len(share.passes))] if share.packed else share.passes
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        # as one process: the rows are this process' own already
        return prepare_data_loader(
            loader, device=self.args.device, num_processes=1, process_index=0, put_on_device=True
        )

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: rate_share(step, num_training_steps, self.section)
            )
        return self.lr_scheduler

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        # Each micro-batch's loss is already divided by the learned tokens of the whole step, so the sum is the mean
        self.step_loss += float(loss)
        return loss

    def run_pass(self, number: int) -> None:
        """Forward and backward of one pass of the order, as in a step of which it is the only one."""
        places = [number] if self.row_order.packed else self.row_order.passes[number]
        batch = self.data_collator([self.train_dataset[place] for place in places])
        self.training_step(self.model_wrapped, batch, self._get_num_items_in_batch([batch], self.args.device))

    def forget_passes(self) -> None:
        """Leave no gradient, loss or count of run_pass behind."""
        self.model.zero_grad()
        self.step_loss, self._total_train_tokens = 0.0, 0
        self._metrics["train"].clear()

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step, ranks = self.state.global_step, self.parts.ranks
        state = get_peft_model_state_dict(self.model, adapter_name=TRAINED_ADAPTER, save_embedding_layers=False)
        check_agreement(state, ranks, step=step)
        random_states = ranks.gather(self._random_state())
        if ranks.leads:
            self.parts.store.save(
                step,
                rows_done=self.row_order.rows_done(step),
                write=lambda folder: self._write_checkpoint(folder, state, random_states),
            )
        # nobody leaves, interrupted, before the checkpoint is there
        ranks.share(step)
        self.parts.watcher.saved(step)

    def _random_state(self) -> bytes:
        with TemporaryDirectory(prefix="finetune-") as folder:
            self._save_rng_state(folder)
            return (Path(folder) / random_state_name(self.parts.ranks.rank, self.parts.ranks.size)).read_bytes()

    def _write_checkpoint(
        self, folder: Path, state: Mapping[str, torch.Tensor], random_states: Sequence[bytes]
    ) -> None:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / ADAPTER_WEIGHTS_NAME)
        self._save_optimizer_and_scheduler(str(folder))
        for rank, content in enumerate(random_states):
            (folder / random_state_name(rank, len(random_states))).write_bytes(content)
        self.state.log_history.clear()
        self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
        if self.parts.looks is not None:
            self.parts.looks.write(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trained(self.model, Path(resume_from_checkpoint))


class _LoopCallback(TrainerCallback):
    """Decides after each step whether to save or to stop, and passes the figures on."""

    def __init__(self, trainer: BridgedTrainer, save_every_steps: int) -> None:
        self._trainer = trainer
        self._save_every_steps = save_every_steps

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        parts = self._trainer.parts
        if parts.rehearsal is not None:
            parts.rehearsal(self._trainer.run_pass)
            self._trainer.forget_passes()
        parts.watcher.begun()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loss = self._trainer.step_loss = self._trainer.parts.ranks.mean(self._trainer.step_loss)
        step = state.global_step + 1
        if not math.isfinite(loss):
            raise DivergedError(f"The loss is {loss} at step {step}.", NOT_FINITE_HINT)
        gradients = [part.grad for part in self._trainer.model.parameters() if part.grad is not None]
        if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            # the step would make the factors not finite, and a checkpoint might be written before a loss tells of it
            raise DivergedError(f"The gradient is not finite at step {step}.", NOT_FINITE_HINT)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loss, self._trainer.step_loss = self._trainer.step_loss, 0.0
        step = state.global_step
        parts = self._trainer.parts
        parts.watcher.step_done(step, loss)
        stopping = parts.ranks.any(parts.stop.requested)
        last = step >= state.max_steps
        advice = parts.looks.after_step(step, last=last) if parts.looks else Advice()
        if stopping or advice.stop:
            control.should_training_stop = True
        last = last or advice.stop
        # the curve ends where training does, whatever the interval
        control.should_log = control.should_log or last
        due = step % self._save_every_steps == 0
        control.should_save = last or stopping or advice.save or due

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self._trainer.parts.watcher.logged(
                state.global_step,
                loss=float(logs["loss"]),
                learning_rate=float(logs["learning_rate"]),
                gradient_norm=float(logs.get("grad_norm", 0.0)),
            )


def build_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[TokenRow],
    *,
    order: RowOrder,
    section: TrainSection,
    device: str,
    parts: LoopParts,
) -> BridgedTrainer:
    """A trainer for a PeftModel over rows taken in order. Its trainable parameters are float32 when this returns."""
    share = order
    if parts.ranks.size > 1:
        rows = with_silent_row(rows)
        share = share_of(order, parts.ranks, silent=len(rows) - 1)
    trainer = BridgedTrainer(
        order=order,
        share=share,
        section=section,
        parts=parts,
        model=model,
        args=training_arguments(
            section,
            num_steps=order.num_steps,
            passes_per_step=share.passes_per_step,
            device=device,
            folder=parts.store.root,
            packed=order.packed,
        ),
        train_dataset=pack_dataset(rows, share) if order.packed else token_dataset(rows),
        data_collator=packed_batch if order.packed else None,
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    if parts.ranks.rank:
        # else all would drop the same places of different rows
        torch.manual_seed(section.seed + parts.ranks.rank)
    trainer.add_callback(_LoopCallback(trainer, section.save_every_steps))
    return trainer


def run_loop(trainer: BridgedTrainer, resume: Checkpoint | None) -> int:
    """Train to the end, or until somebody asks to stop; returns the steps done in all."""
    try:
        trainer.train(resume_from_checkpoint=str(resume.folder) if resume else None)
    except torch.OutOfMemoryError as cause:
        raise MachineError(
            f"The GPU's memory did not suffice for step {trainer.state.global_step + 1}: {str(cause).splitlines()[0]}",
            "`finetune plan RECIPE` shows what takes how much, and what to change. Nothing was changed for you.",
        ) from cause
    return int(trainer.state.global_step)


def token_dataset(rows: Sequence[TokenRow]) -> datasets.Dataset:
    """Rows as the two columns that SFTTrainer takes as they are, in memory."""
    feature = datasets.Sequence(datasets.Value("int32"))
    return datasets.Dataset.from_dict(
        {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]},
        features=datasets.Features({"input_ids": feature, "labels": feature}),
    )


def pack_dataset(rows: Sequence[TokenRow], order: RowOrder) -> datasets.Dataset:
    """One entry for each forward pass: its rows as they are, a list of each column."""
    feature = datasets.Sequence(datasets.Sequence(datasets.Value("int32")))
    return datasets.Dataset.from_dict(
        {
            "input_ids": [[rows[index].input_ids for index in chosen] for chosen in order.passes],
            "labels": [[rows[index].labels for index in chosen] for chosen in order.passes],
        },
        features=datasets.Features({"input_ids": feature, "labels": feature}),
    )


def packed_batch(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tensors of the one entry of pack_dataset that a forward pass takes."""
    (entry,) = entries
    return packed_inputs(list(zip(entry["input_ids"], entry["labels"], strict=True)))


def checkpointing_arguments(section: TrainSection, *, device: str) -> dict[str, bool] | None:
    """The library's arguments of activation checkpointing, None for its own. On a CPU, a note says why it gets none."""
    if not section.activation_offload:
        return None
    if device == "cpu":
        note("train.activation_offload changes nothing on a CPU: what is saved is in host memory anyway.")
        return None
    return {"offload": True}


def distributed_arguments(device: str) -> dict[str, Any]:
    """What SFTConfig is told where several processes share a step."""
    return {
        # the loss is divided by the learned tokens of all processes, not by the mean of each one's own
        "average_tokens_across_devices": True,
        # every factor has a gradient in every pass, and no buffer changes
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,
        "ddp_backend": "gloo" if device == "cpu" else None,
    }


def training_arguments(
    section: TrainSection, *, num_steps: int, passes_per_step: int, device: str, folder: Path, packed: bool = False
) -> SFTConfig:
    """The recipe's train section in SFTConfig's words. Rows are given whole, and in order: nothing is cut or packed by
    the library, which sees a pass of packed rows as one. passes_per_step are those of this process.
    """
    return SFTConfig(
        output_dir=str(folder),
        max_steps=num_steps,
        per_device_train_batch_size=1 if packed else section.micro_batch,
        gradient_accumulation_steps=passes_per_step,
        learning_rate=section.learning_rate,
        optim=(CPU_OPTIMIZERS if device == "cpu" else OPTIMIZERS)[section.optimizer],
        weight_decay=section.weight_decay,
        max_grad_norm=section.max_grad_norm,
        activation_checkpointing=section.activation_checkpointing,
        activation_checkpointing_kwargs=checkpointing_arguments(section, device=device),
        seed=section.seed,
        logging_steps=section.log_every_steps,
        logging_first_step=True,
        # A loss that is not finite ends the run; the filter would hide it
        logging_nan_inf_filter=False,
        # The loop's own callback decides when to save
        save_strategy="no",
        eval_strategy="no",
        bf16=True,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        disable_tqdm=True,
        report_to="none",
        push_to_hub=False,
        **(distributed_arguments(device) if passes_per_step != section.accumulation else {}),
    )
