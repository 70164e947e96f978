"""Operations per token against the figures of a 27B, and what of them each setting changes."""

from dataclasses import replace

import pytest

from finetune.plan.memory import Workload
from finetune.plan.shape import LinearMaps, ModelShape
from finetune.plan.speed import delta_rule_flops, tokens_per_second, training_flops


def flops_of(shape: ModelShape, work: Workload, row_tokens: float, *, checkpointing: bool = True) -> float:
    found = training_flops(shape, targets=work.targets, rank=16, row_tokens=row_tokens, checkpointing=checkpointing)
    return found.total / 1e9


@pytest.mark.parametrize(("row_tokens", "gflops"), [(2048, 158), (4096, 160), (8192, 164), (32_768, 185)])
def test_a_27b_takes_six_operations_per_weight_and_attention(
    shape: ModelShape, work: Workload, row_tokens: int, gflops: float
) -> None:
    delta = delta_rule_flops(heads=48, key_size=128, value_size=128)
    layers = (replace(shape.layers[0], state_flops=delta), shape.layers[1])
    assert flops_of(replace(shape, layers=layers), work, row_tokens) == pytest.approx(gflops, rel=0.015)


def test_parts_of_a_27b(shape: ModelShape, work: Workload) -> None:
    found = training_flops(shape, targets=work.targets, rank=16, row_tokens=4096, checkpointing=True)
    assert found.body / 1e9 == pytest.approx(146.1, rel=0.001)
    assert found.head / 1e9 == pytest.approx(7.63, rel=0.001)
    assert found.attention / 1e9 == pytest.approx(3.6, rel=0.02)


def test_without_checkpointing_a_third_of_the_body_is_saved(shape: ModelShape, work: Workload) -> None:
    with_it = training_flops(shape, targets=(), rank=16, row_tokens=1, checkpointing=True)
    without = training_flops(shape, targets=(), rank=16, row_tokens=1, checkpointing=False)
    assert without.body == pytest.approx(with_it.body * 2 / 3)


def test_model_operations_are_the_same_with_and_without_checkpointing(shape: ModelShape, work: Workload) -> None:
    with_it, without = (
        training_flops(shape, targets=work.targets, rank=16, row_tokens=4096, checkpointing=checkpointing)
        for checkpointing in (True, False)
    )
    assert with_it.needed == pytest.approx(without.needed)
    # of the head one of three products is made again, of the layers one of two forward passes too
    assert without.again == pytest.approx(without.head / 3)
    assert with_it.again > with_it.body / 3 > without.again


def test_tokens_that_are_not_scored_cost_no_head(shape: ModelShape) -> None:
    def head(share: float) -> float:
        found = training_flops(shape, targets=(), rank=16, row_tokens=9, checkpointing=True, scored_share=share)
        return found.head

    assert (head(0.0), head(0.25)) == (0.0, head(1.0) / 4)


def test_a_token_passes_through_its_active_experts_alone(shape: ModelShape) -> None:
    experts = replace(shape, maps=(LinearMaps("experts.down_proj", 1024, 4096, 10, experts=512, active=8),))
    found = training_flops(experts, targets=(), rank=16, row_tokens=1, checkpointing=True)
    assert found.body == 6 * 1024 * 4096 * 10 * 8


def test_a_window_bounds_attention(shape: ModelShape) -> None:
    def attention(window: int | None, row_tokens: int) -> float:
        layers = (replace(shape.layers[1], window=window),)
        bounded = replace(shape, layers=layers)
        return training_flops(bounded, targets=(), rank=16, row_tokens=row_tokens, checkpointing=True).attention

    assert attention(1024, 16_384) == attention(1024, 32_768) < attention(None, 16_384)


def test_tokens_per_second_of_a_4090_at_half_its_peak() -> None:
    assert tokens_per_second(160e9, 165.0, 0.5) == pytest.approx(516, rel=0.002)
