"""Shapes of two models without torch, and the workload of the 24 GB recipe."""

import pytest

from finetune.contracts.adapter import Quantization
from finetune.plan.memory import Workload
from finetune.plan.shape import Activations, LayerShape, LinearMaps, ModelShape

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
LINEAR = ("in_proj_qkv", "in_proj_z", "out_proj")


def layer(kind: str, count: int, *, width: int = 0, window: int | None = None) -> LayerShape:
    """Layers that keep 300 KB per token and have 400 at once."""
    costs = Activations(saved=300_000, backward=400_000, forward=160_000)
    return LayerShape(kind, count, costs, costs, attention_width=width, window=window, state_flops=0.0)


def maps_27b() -> tuple[LinearMaps, ...]:
    """The linear maps of Qwen3.6-27B."""
    return (
        LinearMaps("in_proj_qkv", 5120, 10240, 48),
        LinearMaps("in_proj_z", 5120, 6144, 48),
        LinearMaps("in_proj_a", 5120, 48, 48),
        LinearMaps("in_proj_b", 5120, 48, 48),
        LinearMaps("out_proj", 6144, 5120, 48),
        LinearMaps("q_proj", 5120, 12288, 16),
        LinearMaps("k_proj", 5120, 1024, 16),
        LinearMaps("v_proj", 5120, 1024, 16),
        LinearMaps("o_proj", 6144, 5120, 16),
        LinearMaps("gate_proj", 5120, 17408, 64),
        LinearMaps("up_proj", 5120, 17408, 64),
        LinearMaps("down_proj", 17408, 5120, 64),
    )


@pytest.fixture
def shape() -> ModelShape:
    """A dense 27B."""
    return ModelShape(
        hidden=5120,
        vocabulary=248_320,
        tied=False,
        maps=maps_27b(),
        other_parameters=2_645_504,
        layers=(layer("linear_attention", 48), layer("full_attention", 16, width=6144)),
        cache_bytes=65_536,
        largest_layer=400_000_000,
    )


@pytest.fixture
def work() -> Workload:
    """NF4, rank 16 on all maps, rows of 4,096 tokens, checkpoints on the card."""
    return Workload(
        quantization=Quantization.NF4,
        keep_16bit=("lm_head", "in_proj_a", "in_proj_b"),
        targets=ATTENTION + MLP + LINEAR,
        rank=16,
        optimizer="paged_adamw_8bit",
        row_tokens=4096,
        micro_batch=1,
        packed=False,
        accumulation=16,
        checkpointing=True,
        offload=False,
        embedding_on_host=False,
        eval_rows=1,
        new_tokens=0,
    )
