"""The pass before the first step: which one it is, what the plan counts for it, what is said where it does not fit."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.plan.machine import Card, parse_card
from finetune.plan.memory import Workload, phases
from finetune.plan.shape import Activations, LayerShape, LinearMaps, ModelShape
from finetune.train.order import RowOrder
from finetune.train.preflight import (
    held_tokens,
    is_worth_it,
    longest_pass,
    pass_workload,
    planned_bytes,
    rehearse,
    states_bytes,
    too_small,
)

COSTS = Activations(saved=300_000, backward=400_000, forward=160_000)
SHAPE = ModelShape(
    hidden=5120,
    vocabulary=248_320,
    tied=False,
    maps=(LinearMaps("gate_proj", 5120, 17_408, 64), LinearMaps("down_proj", 17_408, 5120, 64)),
    other_parameters=0,
    layers=(LayerShape("full_attention", 64, COSTS, COSTS, attention_width=6144, window=None, state_flops=0.0),),
    cache_bytes=65_536,
)
WORK = Workload(
    quantization=Quantization.NF4,
    keep_16bit=(),
    targets=("gate_proj",),
    rank=16,
    optimizer="adamw",
    row_tokens=4096,
    micro_batch=4,
    packed=True,
    accumulation=4,
    checkpointing=True,
    offload=False,
    embedding_on_host=False,
    eval_rows=1,
    new_tokens=0,
)
LENGTHS = [100, 300, 90, 200, 250]
APART = RowOrder(((2, 0), (1,), (3, 4)), 2)
PACKED = RowOrder(((2, 0), (1,), (3, 4)), 2, packed=True)


def test_padding_counts_where_rows_have_their_own_sequences() -> None:
    assert [held_tokens(APART, LENGTHS, number) for number in range(3)] == [200, 300, 500]
    assert [held_tokens(PACKED, LENGTHS, number) for number in range(3)] == [190, 300, 450]
    assert longest_pass(APART, LENGTHS) == longest_pass(PACKED, LENGTHS) == 2


def test_a_pass_asks_for_its_own_tokens() -> None:
    apart, packed = (pass_workload(WORK, order, LENGTHS, number=2) for order in (APART, PACKED))
    assert (apart.row_tokens, apart.micro_batch, apart.packed, apart.step_tokens) == (250, 2, False, 500)
    assert (packed.row_tokens, packed.micro_batch, packed.packed, packed.step_tokens) == (450, 1, True, 450)


def test_what_lies_outside_pytorchs_memory_is_left_out() -> None:
    longest = {item.name: item.size for item in phases(SHAPE, WORK)[2].items}
    states = longest["optimiser states"]
    assert planned_bytes(SHAPE, WORK) == sum(longest.values()) - longest["CUDA context and libraries"]
    assert states_bytes(SHAPE, WORK) == states > 0
    paged = replace(WORK, optimizer="paged_adamw_8bit")
    assert states_bytes(SHAPE, paged) == 0
    assert planned_bytes(SHAPE, paged) == planned_bytes(SHAPE, WORK) - states


def test_short_runs_on_a_cpu_have_none() -> None:
    short, long = RowOrder(((0,),) * 49, 1), RowOrder(((0,),) * 50, 1)
    assert [is_worth_it(order, "cpu") for order in (short, long)] == [False, True]
    assert is_worth_it(short, "cuda")


def test_the_random_state_is_as_before() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = draws()
    seed()
    found = rehearse(lambda: draws() and None, device="cpu", states=10)
    assert draws() == expected
    assert found.seconds > 0 and found.peak_bytes is None


@pytest.mark.parametrize("card", ["4090", "H200"])
def test_what_does_not_fit_is_told_with_changes_that_gain_more_than_the_plan_missed(card: str) -> None:
    place = parse_card(card)
    error = too_small(SHAPE, WORK, place, pass_tokens=16_000, cause="CUDA out of memory.")
    assert error.exit_code == 4
    assert "16,000 tokens, does not fit on " + place.name in error.message
    assert "CUDA out of memory." in error.message
    assert "--set train.micro_batch=1 --set train.accumulation=16" in error.hint
    assert "Nothing was changed for you" in error.hint


def test_where_nothing_helps_it_says_so() -> None:
    error = too_small(SHAPE, WORK, Card("tiny", 4096, None), pass_tokens=9, cause="full.")
    assert "no change of the recipe fits" in error.hint
