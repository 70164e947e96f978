"""Kernels are used after they were compared with the reference, in a process of their own; here without a GPU."""

import math
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
import torch

from finetune.model import fused_delta
from finetune.model.fused_delta import DeltaHeads, compare_kernels, fused_problem, problem_of
from finetune.model.gated_delta import causal_conv1d, chunk_gated_delta_rule

HEADS = DeltaHeads(num_keys=2, num_values=4, key_size=16, value_size=16)
CPU = torch.device("cpu")


@pytest.fixture
def honest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_delta, "fused_delta_rule", chunk_gated_delta_rule)
    monkeypatch.setattr(fused_delta, "fused_causal_conv1d", causal_conv1d)


@pytest.mark.usefixtures("honest")
def test_the_reference_agrees_with_itself() -> None:
    errors = compare_kernels(HEADS, CPU)
    assert len(errors) == 9
    assert set(errors.values()) == {0.0}
    assert problem_of(errors) == ""


class HalvedGradient(torch.autograd.Function):
    """Right in forward, wrong in backward: what Triton 3.4 to 3.7 made of the decay's gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient / 2


@pytest.mark.usefixtures("honest")
def test_a_wrong_gradient_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(query: Any, key: Any, value: Any, g: Any, beta: Any, **kwargs: Any) -> Any:
        return chunk_gated_delta_rule(query, key, value, HalvedGradient.apply(g), beta, **kwargs)

    monkeypatch.setattr(fused_delta, "fused_delta_rule", wrong)
    assert problem_of(compare_kernels(HEADS, CPU)) == (
        "flash-linear-attention's delta rule's gradient of g is off by 50.0%"
    )


@pytest.mark.usefixtures("honest")
def test_a_convolution_that_runs_over_a_border_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(mixed: Any, weight: Any, **kwargs: Any) -> Any:
        return causal_conv1d(mixed, weight, **{**kwargs, "seq_idx": None})

    monkeypatch.setattr(fused_delta, "fused_causal_conv1d", leaky)
    assert max(compare_kernels(HEADS, CPU).items(), key=lambda pair: pair[1])[0].startswith("convolution")


def test_what_is_not_a_number_fails() -> None:
    assert "off by nan" in problem_of({"delta rule": 0.001, "convolution": math.nan})


def test_without_the_package_nothing_is_started() -> None:
    assert fused_problem(HEADS) == "the package flash-linear-attention is not installed"


def test_a_process_that_dies_is_a_reason_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is said to be there; the process finds neither it nor a GPU."""
    monkeypatch.setattr(fused_delta, "find_spec", lambda name: ModuleSpec(name, None))
    assert fused_problem(HEADS).startswith("flash-linear-attention does not run here: ")


def test_one_row_has_borders_and_padded_rows_have_none() -> None:
    one, two = torch.zeros(1, 9, 2), torch.zeros(2, 9, 2)
    assert fused_delta._borders(None, one).tolist() == [0, 9]
    # the kernels' own cache knows borders by identity
    assert fused_delta._borders(None, one) is fused_delta._borders(None, one)
    assert fused_delta._borders(None, two) is None
    given = torch.tensor([0, 4, 9])
    assert fused_delta._borders(given, one) is given
