"""Every family on a tiny random base of its real architecture: 4-bit as it says, every target trained and exported."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from finetune.adapters.export import AdapterOrigin, write_adapter
from finetune.adapters.verify import verify_adapter
from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import BaseModelError
from finetune.families.base import Family
from finetune.families.llama import LLAMA
from finetune.families.mixtral import MIXTRAL
from finetune.families.mixtures import EXPERTS
from finetune.families.registry import FAMILIES
from finetune.families.tokens import Supported
from finetune.model.audit import audit_modules
from finetune.model.loading import LoadedBase, load_base, load_weights
from finetune.model.lora import attach, count_trainable, layer_kinds
from finetune.model.packed import packing_problem
from finetune.model.quiet import quiet_libraries
from finetune.model.scoring import row_losses
from finetune.recipe.resolve import ResolvedLora, read_text_config

MakeBase = Callable[[str], Path]
PRESETS = [(family, preset) for family in FAMILIES for preset in family.targets]
IDS = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(0))
RATE = 1e-2


def largest(family: Family) -> str:
    return max(family.targets, key=lambda preset: len(family.targets[preset]))


def section(family: Family, preset: str, folder: Path) -> ResolvedLora:
    targets = family.targets_of(preset, read_text_config(folder))
    return ResolvedLora(rank=4, alpha=8.0, dropout=0.0, rank_stabilized=False, targets=targets)


def load(folder: Path, quantization: Quantization = Quantization.NF4) -> LoadedBase:
    return load_base(folder, quantization=quantization, device="cpu")


def step(model: torch.nn.Module, *, steps: int = 1) -> float:
    """Train as the bridge does, in bfloat16 under float32 factors; returns the first loss less the last."""
    optimizer = torch.optim.SGD([part for part in model.parameters() if part.requires_grad], lr=RATE)
    losses = []
    model.train()
    for _ in range(steps):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses[0] - losses[-1]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_target_is_4_bit_and_nothing_else(family: Family, family_base: MakeBase) -> None:
    base_folder = family_base(family.name)
    base = load(base_folder)
    audit = audit_modules(base.model, base.family, Quantization.NF4)
    assert {name.rpartition(".")[2] for name in audit.sixteen_bit} <= set(family.keep_16bit)
    linear = {name.rpartition(".")[2] for name in audit.four_bit if not name.endswith(EXPERTS)}
    targets = {target for preset in family.targets for target in section(family, preset, base_folder).targets}
    untrained = {name for kind in family.untrained for name in family.layer_targets[kind]}
    assert targets - set(EXPERTS) <= linear <= targets | untrained
    fused = [part for name, part in base.model.named_parameters() if family.experts and name.endswith(family.experts)]
    assert {part.dtype for part in fused} <= {torch.uint8}
    assert bool(fused) == bool(family.experts)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_rows_are_scored_as_the_model_itself_scores_them(family: Family, family_base: MakeBase) -> None:
    base = load(family_base(family.name), Quantization.NONE)
    row = IDS[0].tolist()
    with torch.no_grad():
        expected = base.model(input_ids=IDS[:1], labels=IDS[:1]).loss.item()
    (found,) = row_losses(base.model, [(row, [-100, *row[1:]])], pad_token=0)
    assert found / (len(row) - 1) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize(("family", "preset"), PRESETS, ids=[f"{family.name} {preset}" for family, preset in PRESETS])
def test_one_step_moves_every_target_of_a_preset(family: Family, preset: str, family_base: MakeBase) -> None:
    folder = family_base(family.name)
    base, lora = load(folder), section(family, preset, folder)
    model = attach(base, lora)
    factors = {name: part for name, part in model.named_parameters() if part.requires_grad}
    assert sum(part.numel() for part in factors.values()) == count_trainable(folder, lora)
    before = {name: part.detach().clone() for name, part in factors.items()}
    step(model)
    stuck = [name for name, part in factors.items() if "lora_B" in name and torch.equal(part, before[name])]
    assert stuck == []
    covered, _ = layer_kinds(base, lora.targets)
    assert set(covered) == {kind for kind, names in family.layer_targets.items() if set(names) & set(lora.targets)}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_largest_preset_trains_exports_and_verifies(family: Family, family_base: MakeBase, tmp_path: Path) -> None:
    folder = family_base(family.name)
    base, lora = load(folder), section(family, largest(family), folder)
    model = attach(base, lora)
    assert step(model, steps=6) > 0
    origin = AdapterOrigin(name="tiny", run_id="r", dataset="d", recipe="r")
    manifest = write_adapter(model, base, lora, origin=origin, folder=tmp_path / "adapter")
    assert verify_adapter(tmp_path / "adapter", folder) == manifest
    assert manifest.targets == lora.targets


VISION = {
    "depth": 1,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 64,
    "out_hidden_size": 64,
    "patch_size": 4,
    "num_position_embeddings": 16,
}


@pytest.mark.parametrize("name", ["qwen3_5", "qwen3_5_moe"])
def test_a_multimodal_checkpoint_is_loaded_as_its_text_class(name: str, family_base: MakeBase, tmp_path: Path) -> None:
    """With vision and multi-token prediction on the disk, and the text part's own weights in memory."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, AutoModelForImageTextToText

    text_folder = family_base(name)
    text = json.loads((text_folder / "config.json").read_text())
    with quiet_libraries():
        config = AutoConfig.for_model(name, text_config=text, vision_config=VISION)
        whole = AutoModelForImageTextToText.from_config(config).to(torch.bfloat16)
        whole.save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(text_folder / file, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["mtp.fc.weight"] = torch.zeros(64, 128, dtype=torch.bfloat16)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert any("visual" in key for key in state)

    base = load(tmp_path, Quantization.NONE)
    assert not [key for key, _ in base.model.named_modules() if "visual" in key or "mtp" in key]
    language = dict(whole.model.language_model.named_parameters())
    found = dict(base.model.model.named_parameters())
    assert found.keys() == language.keys()
    assert all(torch.equal(found[key], language[key]) for key in found)
    assert (base.family.name, base.identity.model_type) == (name, name)
    audit_modules(load(tmp_path).model, base.family, Quantization.NF4)


def test_a_layer_that_the_family_does_not_know_is_refused(family_base: MakeBase) -> None:
    base = load(family_base("qwen3"), Quantization.NONE)
    base.model.model.layers[0].adapter_in = torch.nn.Linear(64, 64, dtype=torch.bfloat16)
    with pytest.raises(BaseModelError, match=r"layers\.0\.adapter_in is a layer that the family qwen3 does not know"):
        audit_modules(base.model, base.family, Quantization.NONE)


def test_a_fused_tensor_that_the_family_does_not_know_is_refused(family_base: MakeBase) -> None:
    base = load(family_base("mixtral"), Quantization.NONE)
    with pytest.raises(BaseModelError, match="experts.gate_up_proj is a layer that the family llama does not know"):
        audit_modules(base.model, LLAMA, Quantization.NONE)


def test_experts_that_stayed_in_16_bits_are_refused(family_base: MakeBase) -> None:
    model = load_weights(
        family_base("mixtral"), quantization=Quantization.NF4, device="cpu", keep_16bit=MIXTRAL.keep_16bit
    )
    with pytest.raises(BaseModelError, match=r"experts\.gate_up_proj was loaded in 16-bit; this family needs it in 4"):
        audit_modules(model, MIXTRAL, Quantization.NF4)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_rows_are_packed_exactly_or_not_at_all(family: Family, family_base: MakeBase) -> None:
    folder = family_base(family.name)
    base = load(folder)
    model = attach(base, section(family, "attention", folder))
    row = IDS.flatten().tolist()
    problem = packing_problem(model, family, [(row, row)])
    assert problem == ("" if isinstance(family.packing, Supported) else family.packing.reason)
