"""What the bridge makes of TRL: float32 factors, the loss per learned token of a whole step, packing that is exact."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.families.qwen3_5 import QWEN3_5
from finetune.model.loading import load_base
from finetune.model.lora import attach
from finetune.model.quiet import quiet_libraries
from finetune.model.scoring import row_losses
from finetune.recipe.resolve import ResolvedLora
from finetune.recipe.schema import TrainSection
from finetune.render.dataset import open_dataset
from finetune.render.rows import TokenRow
from finetune.train.checkpoints import CheckpointStore, Subject
from finetune.train.data import prepare_rows
from finetune.train.interrupt import StopRequest
from finetune.train.order import RowOrder

SUBJECT = Subject(run_id="r", base="b", dataset="d", recipe="c")
LORA = ResolvedLora(
    rank=4, alpha=8.0, dropout=0.0, rank_stabilized=False, targets=QWEN3_5.targets["attention+mlp+linear_attention"]
)


PACKS = ((0, 5, 2), (7, 1), (3, 4, 6))


class Watcher:
    """Keeps the figures of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []

    def begun(self) -> None:
        pass

    def step_done(self, step: int, loss: float) -> None:
        self.losses.append(loss)

    def logged(self, step: int, *, loss: float, learning_rate: float, gradient_norm: float) -> None:
        assert loss == pytest.approx(self.losses[-1], rel=1e-5)
        self.norms.append(gradient_norm)

    def saved(self, step: int) -> None:
        pass


@pytest.fixture
def rows(resolved_tiny: Callable[..., Any], tiny_tokenizer: Any, tiny_dataset: Path) -> tuple[TokenRow, ...]:
    found = prepare_rows(open_dataset(tiny_dataset), tiny_tokenizer, QWEN3_5, resolved=resolved_tiny())
    return found.train


def build(
    base: Path,
    rows: tuple[TokenRow, ...],
    folder: Path,
    *,
    packed: bool = False,
    quantization: Quantization = Quantization.NF4,
    **values: object,
) -> tuple[Any, Any, Watcher]:
    section = TrainSection.model_validate(
        {"max_steps": 1, "optimizer": "adamw", "activation_checkpointing": False, "log_every_steps": 1, **values}
    )
    loaded = load_base(base, quantization=quantization, device="cpu")
    model = attach(loaded, LORA, seed=3)
    watcher = Watcher()
    if packed:
        order = RowOrder(PACKS[: section.accumulation], section.accumulation, packed=True)
    else:
        passes = [
            tuple(range(start, min(8, start + section.micro_batch))) for start in range(0, 8, section.micro_batch)
        ]
        order = RowOrder(tuple(passes), section.accumulation)
    with quiet_libraries():
        from finetune.train.trl_bridge import LoopParts, build_trainer

        trainer = build_trainer(
            model,
            loaded.tokenizer,
            rows,
            order=order,
            section=section,
            device="cpu",
            parts=LoopParts(CheckpointStore(folder, SUBJECT, keep=1), watcher, StopRequest()),
        )
    return trainer, model, watcher


def run(trainer: Any) -> None:
    from finetune.train.trl_bridge import run_loop

    with quiet_libraries():
        run_loop(trainer, None)


def test_factors_are_float32_though_trl_casts_them(tiny_base: Path, rows: tuple[TokenRow, ...], tmp_path: Path) -> None:
    _, model, _ = build(tiny_base, rows, tmp_path)
    assert {part.dtype for part in model.parameters() if part.requires_grad} == {torch.float32}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_accumulation_and_batches_give_the_same_step(
    tiny_base: Path, rows: tuple[TokenRow, ...], tmp_path: Path, checkpointing: bool
) -> None:
    found = []
    for micro_batch, accumulation in ((8, 1), (1, 8), (2, 4)):
        trainer, _, watcher = build(
            tiny_base,
            rows,
            tmp_path / f"{micro_batch}",
            micro_batch=micro_batch,
            accumulation=accumulation,
            activation_checkpointing=checkpointing,
        )
        run(trainer)
        found.append((watcher.losses[0], watcher.norms[0]))
    assert found[1] == pytest.approx(found[0], rel=2e-2)
    assert found[2] == pytest.approx(found[0], rel=2e-2)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_rows_give_the_step_of_separate_ones(
    tiny_base: Path, rows: tuple[TokenRow, ...], tmp_path: Path, checkpointing: bool
) -> None:
    found = []
    for packed, accumulation in ((False, 8), (True, 3)):
        trainer, _, watcher = build(
            tiny_base,
            rows,
            tmp_path / str(packed),
            packed=packed,
            micro_batch=1,
            accumulation=accumulation,
            activation_checkpointing=checkpointing,
            max_grad_norm=1e9,
        )
        run(trainer)
        found.append((watcher.losses[0], watcher.norms[0]))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-3)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-2)


def first_gradients(trainer: Any) -> dict[str, torch.Tensor]:
    """Train, and return the gradients of the first step."""
    from transformers import TrainerCallback

    found: dict[str, torch.Tensor] = {}

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            if not found:
                found.update(
                    (name, part.grad.clone())
                    for name, part in trainer.model.named_parameters()
                    if part.grad is not None
                )

    trainer.add_callback(Keep())
    run(trainer)
    return found


@pytest.mark.parametrize("other", [(1, 8, False), (2, 4, False), (1, 3, True)], ids=["accumulated", "both", "packed"])
def test_in_float32_each_gradient_of_a_step_is_the_same_however_its_rows_are_cut(
    tiny_base: Path,
    rows: tuple[TokenRow, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    other: tuple[int, int, bool],
) -> None:
    """Of a hybrid base, eight rows as one batch against the same as passes of their own, or packed in threes."""
    from finetune.train import trl_bridge

    config = trl_bridge.SFTConfig
    monkeypatch.setattr(trl_bridge, "SFTConfig", lambda **values: config(**{**values, "bf16": False}))
    found = []
    for micro_batch, accumulation, packed in ((8, 1, False), other):
        trainer, model, _ = build(
            tiny_base,
            rows,
            tmp_path / str(len(found)),
            packed=packed,
            quantization=Quantization.NONE,
            micro_batch=micro_batch,
            accumulation=accumulation,
            max_grad_norm=1e9,
        )
        model.float()
        found.append(first_gradients(trainer))
    expected, actual = found
    assert expected.keys() == actual.keys() and len(expected) > 20
    for name, gradient in expected.items():
        assert (actual[name] - gradient).norm() <= 2e-5 * gradient.norm() + 1e-9, name


def test_factors_move_at_a_small_learning_rate(tiny_base: Path, rows: tuple[TokenRow, ...], tmp_path: Path) -> None:
    """In bfloat16 most of a step of 1e-5 would round to nothing; B begins at zero, so A moves from the second step."""
    trainer, model, _ = build(
        tiny_base,
        rows,
        tmp_path,
        micro_batch=2,
        accumulation=1,
        learning_rate=1e-5,
        schedule="constant",
        warmup_share=0,
    )
    trained = {name: part for name, part in model.named_parameters() if part.requires_grad}
    before = {name: part.detach().clone() for name, part in trained.items()}
    run(trainer)
    assert {part.dtype for part in trained.values()} == {torch.float32}
    moved = [float((part != before[name]).float().mean()) for name, part in trained.items()]
    assert min(moved) > 0.9


def test_packed_batches_hold_whole_rows(tiny_base: Path, rows: tuple[TokenRow, ...], tmp_path: Path) -> None:
    trainer, _, _ = build(tiny_base, rows, tmp_path, packed=True, accumulation=3)
    batches = list(trainer.get_train_dataloader())
    assert len(batches) == 3
    for batch, chosen in zip(batches, PACKS, strict=True):
        assert batch["input_ids"][0].tolist() == [token for index in chosen for token in rows[index].input_ids]
        assert batch["labels"][0].tolist() == [label for index in chosen for label in rows[index].labels]
        assert batch["cu_seq_lens_q"].tolist()[-1] == sum(len(rows[index].input_ids) for index in chosen)
        assert "attention_mask" not in batch


def test_the_loss_is_the_mean_over_learned_tokens(tiny_base: Path, rows: tuple[TokenRow, ...], tmp_path: Path) -> None:
    trainer, model, watcher = build(tiny_base, rows, tmp_path, micro_batch=2, accumulation=4)
    expected = sum(row_losses(model, [(row.input_ids, row.labels) for row in rows[:8]], pad_token=0))
    run(trainer)
    assert watcher.losses == [pytest.approx(expected / sum(row.num_loss_tokens for row in rows[:8]), rel=1e-3)]


def test_rows_are_taken_whole_in_the_given_order(tiny_base: Path, rows: tuple[TokenRow, ...], tmp_path: Path) -> None:
    trainer, _, _ = build(tiny_base, rows, tmp_path, micro_batch=3)
    batches = list(trainer.get_train_dataloader())
    assert [len(batch["input_ids"]) for batch in batches] == [3, 3, 2]
    found = [
        (tuple(ids[: int(mask.sum())].tolist()), tuple(labels[: int(mask.sum())].tolist()))
        for batch in batches
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
    ]
    assert found == [(row.input_ids, row.labels) for row in rows[:8]]
    assert all((batch["labels"][batch["attention_mask"] == 0] == -100).all() for batch in batches)
    assert not trainer.args.packing and not trainer.padding_free


def test_offloaded_checkpoints_change_no_gradient_and_are_one_hidden_state_a_layer(
    tiny_base: Path, rows: tuple[TokenRow, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, but that host memory is not pinned, which only a GPU can do."""
    from transformers import modeling_utils

    from finetune.train import trl_bridge

    moved: list[tuple[int, ...]] = []

    class Counted(torch.autograd.graph.saved_tensors_hooks):
        def __init__(self, *, pin_memory: bool, device_type: str) -> None:
            assert pin_memory

            def pack(tensor: torch.Tensor) -> torch.Tensor:
                moved.append(tuple(tensor.shape))
                return tensor.clone()

            super().__init__(pack, lambda tensor: tensor)

    monkeypatch.setattr(modeling_utils, "save_on_cpu", Counted)
    arguments = trl_bridge.checkpointing_arguments

    def as_on_a_gpu(section: TrainSection, *, device: str) -> dict[str, bool] | None:
        return arguments(section, device="cuda")

    norms = {}
    for offload in (False, True):
        if offload:
            monkeypatch.setattr(trl_bridge, "checkpointing_arguments", as_on_a_gpu)
        values = {"accumulation": 8, "activation_checkpointing": True, "activation_offload": offload}
        trainer, _, watcher = build(tiny_base, rows, tmp_path / str(offload), **values)
        run(trainer)
        norms[offload] = (watcher.losses[0], watcher.norms[0])
        assert bool(moved) is offload
    assert norms[True] == norms[False]
    hidden = [shape for shape in moved if len(shape) == 3 and shape[-1] == 64]
    # 4 layers in each of 8 passes
    assert len(hidden) == 4 * 8


def test_offload_on_a_cpu_says_that_it_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    from finetune.train.trl_bridge import checkpointing_arguments

    section = TrainSection(activation_offload=True)
    assert checkpointing_arguments(section, device="cpu") is None
    assert "activation_offload changes nothing on a CPU" in capsys.readouterr().err
    assert checkpointing_arguments(section, device="cuda") == {"offload": True}
