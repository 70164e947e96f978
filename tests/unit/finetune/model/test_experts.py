"""Experts in 4 bits: what is packed is what bitsandbytes makes of it, and forward, gradients and adapters agree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import RecipeError
from finetune.families.mixtral import MIXTRAL
from finetune.model.experts import is_packed, states_name
from finetune.model.loading import LoadedBase, load_base
from finetune.model.lora import attach
from finetune.recipe.resolve import ResolvedLora

MakeBase = Callable[[str], Path]
IDS = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(0))


def section(dropout: float = 0.0) -> ResolvedLora:
    targets = MIXTRAL.targets["attention+experts"]
    return ResolvedLora(rank=4, alpha=8.0, dropout=dropout, rank_stabilized=False, targets=targets)


def load(folder: Path, quantization: Quantization = Quantization.NF4) -> LoadedBase:
    return load_base(folder, quantization=quantization, device="cpu")


def experts_of(model: Any, layer: int = 0) -> Any:
    return model.model.layers[layer].mlp.experts


def unpacked(experts: Any, name: str) -> torch.Tensor:
    states = getattr(experts, states_name(name))
    packed = getattr(experts, name)
    return torch.stack([dequantize_4bit(packed[index], states.state(index)) for index in range(len(packed))])


@pytest.fixture
def twins(family_base: MakeBase) -> tuple[LoadedBase, LoadedBase]:
    """A base in 4 bits, and the library's own 16-bit one that holds what the first unpacks to."""
    packed, plain = load(family_base("mixtral")), load(family_base("mixtral"), Quantization.NONE)
    with torch.no_grad():
        for name, module in packed.model.named_modules():
            if isinstance(module, Linear4bit):
                weight = dequantize_4bit(module.weight.data, module.weight.quant_state)
                plain.model.get_submodule(name).weight.copy_(weight)
        for layer in range(2):
            for name in ("gate_up_proj", "down_proj"):
                getattr(experts_of(plain.model, layer), name).copy_(unpacked(experts_of(packed.model, layer), name))
    return packed, plain


def test_an_expert_is_packed_as_bitsandbytes_packs_it_alone(family_base: MakeBase) -> None:
    packed, plain = load(family_base("mixtral")).model, load(family_base("mixtral"), Quantization.NONE).model
    for name in ("gate_up_proj", "down_proj"):
        assert is_packed(experts_of(packed), name)
        weight = getattr(experts_of(plain), name).data
        alone = [dequantize_4bit(*quantize_4bit(part, compress_statistics=True, quant_type="nf4")) for part in weight]
        assert torch.equal(unpacked(experts_of(packed), name), torch.stack(alone))
        assert getattr(experts_of(packed), name).numel() * 2 == weight.numel()


def test_one_layer_gives_what_the_library_gives_on_the_same_weights(twins: tuple[LoadedBase, LoadedBase]) -> None:
    packed, plain = (experts_of(base.model) for base in twins)
    inputs = torch.randn(30, 64, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    chosen = torch.randint(0, 4, (30, 2), generator=torch.Generator().manual_seed(2))
    shares = torch.rand(30, 2, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    results, gradients = [], []
    for experts in (packed, plain):
        output = experts(inputs, chosen, shares)
        (gradient,) = torch.autograd.grad(output.float().square().sum(), inputs)
        results.append(output.float())
        gradients.append(gradient.float())
    torch.testing.assert_close(results[0], results[1], rtol=0.02, atol=1e-4)
    scale = float(gradients[1].abs().max())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.02, atol=5e-3 * scale)


def test_an_adapter_on_packed_experts_is_pefts_own_on_the_same_weights(twins: tuple[LoadedBase, LoadedBase]) -> None:
    """The library's wrapper adds the product to the weight, the one here passes the input through the factors."""
    found = []
    for base in twins:
        model = attach(base, section(), seed=3)
        generator = torch.Generator().manual_seed(4)
        for name, part in model.named_parameters():
            if "lora_B" in name:
                part.data = torch.randn(part.shape, generator=generator) * 0.05
        model.train()
        model(input_ids=IDS, labels=IDS).loss.backward()
        found.append({name: part.grad.flatten() for name, part in model.named_parameters() if part.requires_grad})
    packed, plain = found
    assert packed.keys() == plain.keys()
    fused = [name for name in packed if ".experts." in name]
    assert len(fused) == 2 * 2 * 2
    for name in fused:
        likeness = torch.nn.functional.cosine_similarity(packed[name], plain[name], dim=0)
        assert likeness > 0.97, (name, float(likeness))


def test_disabled_adapters_leave_packed_experts_as_they_are(family_base: MakeBase) -> None:
    base = load(family_base("mixtral"))
    with torch.no_grad():
        before = base.model.train()(input_ids=IDS).logits
        model = attach(base, section())
        for name, part in model.named_parameters():
            if "lora_B" in name and ".experts." in name:
                part.data.fill_(0.1)
        changed = model.train()(input_ids=IDS).logits
        with model.disable_adapter():
            after = model(input_ids=IDS).logits
    assert torch.equal(before, after)
    assert not torch.equal(before, changed)


def test_dropout_on_experts_is_refused(family_base: MakeBase) -> None:
    with pytest.raises(RecipeError, match=r"lora.dropout is 0.1, which cannot be applied to experts.gate_up_proj"):
        attach(load(family_base("mixtral")), section(dropout=0.1))


def test_an_adapter_is_not_merged_into_packed_experts(family_base: MakeBase) -> None:
    model = attach(load(family_base("mixtral")), section())
    wrapped = next(module for module in model.modules() if type(module).__name__ == "ParamWrapper")
    with pytest.raises(RuntimeError, match="merge it into the 16-bit base"):
        wrapped.merge()
