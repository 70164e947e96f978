"""Adapters over tiny bases, exported as training does, and multimodal checkpoints as they are published."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from finetune.adapters.export import AdapterOrigin, write_adapter
from finetune.contracts.adapter import Quantization
from finetune.model.loading import load_base
from finetune.model.lora import attach
from finetune.recipe.resolve import ResolvedLora, read_text_config

VISION = {
    "depth": 1,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 64,
    "out_hidden_size": 64,
    "patch_size": 4,
    "num_position_embeddings": 16,
}


@pytest.fixture(scope="session")
def wrapped_base(family_base: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Read-only: a checkpoint of the multimodal class in several shards, with tensors of multi-token prediction."""

    @cache
    def make(name: str) -> Path:
        text_folder = family_base(name)
        folder = Path(shutil.copytree(text_folder, tmp_path_factory.mktemp("wrapped") / name))
        (folder / "model.safetensors").unlink()
        save_wrapped(folder, name, json.loads((text_folder / "config.json").read_text()))
        return folder

    return make


def save_wrapped(folder: Path, name: str, text: dict[str, Any]) -> None:
    from huggingface_hub import save_torch_state_dict
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForImageTextToText

    from finetune.model.quiet import quiet_libraries

    with quiet_libraries():
        config = AutoConfig.for_model(name, text_config=text, vision_config=VISION)
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    state["mtp.fc.weight"] = torch.randn(64, 128, dtype=torch.bfloat16)
    # its last names are those of the text model's own maps, which 4 bits and adapters change
    state["mtp.layers.0.self_attn.q_proj.weight"] = torch.randn(256, 64, dtype=torch.bfloat16)
    save_torch_state_dict(state, folder, max_shard_size="200KB")
    (folder / "chat_template.jinja").chmod(0o640)


@pytest.fixture(scope="session")
def llama() -> ModuleType:
    """The module llama_reference: under importlib mode tests cannot import each other by name."""
    spec = importlib.util.spec_from_file_location("llama_reference", Path(__file__).parent / "llama_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Read-only: the folder of an adapter over a base, its B factors random; made once for the same arguments."""

    @cache
    def make(
        base_folder: Path,
        *,
        preset: str = "",
        quantization: Quantization = Quantization.NF4,
        rank_stabilized: bool = False,
        spread: float = 0.05,
    ) -> Path:
        base = load_base(base_folder, quantization=quantization, device="cpu")
        named = preset or max(base.family.targets, key=lambda name: len(base.family.targets[name]))
        section = ResolvedLora(
            rank=4,
            alpha=8.0,
            dropout=0.0,
            rank_stabilized=rank_stabilized,
            targets=base.family.targets_of(named, read_text_config(base_folder)),
        )
        model = attach(base, section)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=spread, generator=generator)
        folder = tmp_path_factory.mktemp("made") / "adapter"
        origin = AdapterOrigin(name="tiny", run_id="r", dataset="d", recipe="r", visibility=("a", "b"))
        write_adapter(model, base, section, origin=origin, folder=folder)
        return folder

    return make
