"""Adapters on a base: each target matches, factors are float32, gradients pass through the 4-bit layers."""

from pathlib import Path

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import RecipeError
from finetune.families.qwen3_5 import QWEN3_5
from finetune.model.loading import LoadedBase, load_base
from finetune.model.lora import attach, count_trainable, detach, layer_kinds
from finetune.recipe.resolve import ResolvedLora

ALL = QWEN3_5.targets["attention+mlp+linear_attention"]


def section(targets: tuple[str, ...] = ALL) -> ResolvedLora:
    return ResolvedLora(rank=4, alpha=8.0, dropout=0.0, rank_stabilized=False, targets=targets)


@pytest.fixture
def base(tiny_base: Path) -> LoadedBase:
    return load_base(tiny_base, quantization=Quantization.NF4, device="cpu")


def test_factors_are_float32_and_alone_trainable(base: LoadedBase) -> None:
    model = attach(base, section())
    trainable = {name: part for name, part in model.named_parameters() if part.requires_grad}
    assert all("lora_" in name for name in trainable)
    assert {part.dtype for part in trainable.values()} == {torch.float32}
    touched = {name.split(".lora_")[0].rpartition(".")[2] for name in trainable}
    assert touched == set(ALL)


def test_an_unmatched_target_is_refused(base: LoadedBase) -> None:
    with pytest.raises(RecipeError, match="is called qkv_proj") as caught:
        attach(base, section(("q_proj", "qkv_proj")))
    assert "in_proj_qkv" in caught.value.hint


def test_the_seed_decides_the_factors(tiny_base: Path) -> None:
    def factors(seed: int) -> torch.Tensor:
        loaded = load_base(tiny_base, quantization=Quantization.NF4, device="cpu")
        model = attach(loaded, section(), seed=seed)
        return torch.cat([part.flatten() for name, part in model.named_parameters() if "lora_A" in name])

    assert torch.equal(factors(1), factors(1))
    assert not torch.equal(factors(1), factors(2))


def test_counting_needs_no_weights(base: LoadedBase, tiny_base: Path) -> None:
    model = attach(base, section())
    expected = sum(part.numel() for part in model.parameters() if part.requires_grad)
    assert count_trainable(tiny_base, section()) == expected


def test_layer_kinds_tell_what_is_left_out(base: LoadedBase) -> None:
    assert layer_kinds(base, QWEN3_5.targets["attention+mlp"]) == (("full_attention", "mlp"), ("linear_attention",))


def test_detaching_leaves_the_bare_base(base: LoadedBase) -> None:
    bare = detach(attach(base, section()), "default")
    assert not any("lora_" in name for name, _ in bare.named_parameters())


def test_an_evaluation_before_training_costs_no_gradient(tiny_base: Path) -> None:
    """bitsandbytes repacks 4-bit weights in eval mode on some CPUs; what it repacks passes no gradient on."""

    def gradients(*, look_first: bool) -> torch.Tensor:
        loaded = load_base(tiny_base, quantization=Quantization.NF4, device="cpu")
        ids = torch.arange(40)[None]
        if look_first:
            loaded.model.eval()(input_ids=ids)
        model = attach(loaded, section())
        if look_first:
            with torch.no_grad():
                model.eval()(input_ids=ids)
        # B is 0 at first, which would hide what reaches the layers below
        for name, part in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.constant_(part, 0.01)
        model.train()
        model(input_ids=ids, labels=ids).loss.backward()
        return torch.cat([part.grad.flatten() for _, part in model.named_parameters() if part.grad is not None])

    plain, after = gradients(look_first=False), gradients(look_first=True)
    assert torch.nn.functional.cosine_similarity(plain, after, dim=0) > 0.98
    assert float(after.norm()) == pytest.approx(float(plain.norm()), rel=0.05)
