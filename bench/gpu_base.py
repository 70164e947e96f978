"""A base of a true configuration with random weights, made on the device: no download, no file of weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune.contracts.adapter import BaseIdentity, Quantization
from finetune.families.base import Family
from finetune.families.registry import family_for
from finetune.model.loading import LoadedBase, load_tokenizer
from finetune.model.quiet import quiet_libraries

# Of normal weights: small enough for 64 layers to stay finite in bfloat16
SPREAD = 0.02


def random_base(folder: Path, tokenizer_of: Path, *, device: str) -> LoadedBase:
    """The text model of folder's config.json on device, NF4 where its family has it, with the tokenizer of another."""
    with quiet_libraries():
        from accelerate import init_empty_weights
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    family = family_for(config.model_type)
    torch.manual_seed(0)
    fill(model, family, device=device)
    model.tie_weights()
    # Set by the library's loader; PEFT asks for it
    model.is_loaded_in_4bit = True
    tokenizer = load_tokenizer(tokenizer_of)
    return LoadedBase(
        model=model.eval(),
        tokenizer=tokenizer,
        family=family.for_tokenizer(tokenizer),
        identity=BaseIdentity(
            name=f"{folder.name}, random",
            digest="0" * 64,
            model_type=config.model_type,
            num_hidden_layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
        ),
        quantization=Quantization.NF4,
        device=device,
        chat_template_digest="",
        tokenizer_digest="",
    )


def fill(model: nn.Module, family: Family, *, device: str) -> None:
    """Give each weight memory on device and random numbers; a linear map that may be 4-bit is quantised at once."""
    from bitsandbytes.nn import Linear4bit

    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and family.is_quantised(f"{name}.weight"):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, quantised(module, Linear4bit, device))
            continue
        for leaf, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, leaf, nn.Parameter(numbers(leaf, parameter, device), requires_grad=False))
        for leaf, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, leaf, buffer.to(device))


def quantised(module: nn.Linear, kind: Any, device: str) -> nn.Module:
    """A 4-bit map of the same size, as the loader makes it."""
    from bitsandbytes.nn import Params4bit

    made = kind(
        module.in_features,
        module.out_features,
        bias=False,
        compute_dtype=torch.bfloat16,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    weight = numbers("weight", module.weight, device)
    made.weight = Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4", module=made)
    made.weight = made.weight.to(device)
    return made


def numbers(leaf: str, parameter: torch.Tensor, device: str) -> torch.Tensor:
    """Random numbers of a parameter's size; what sets the decay of Gated DeltaNet is as in trained models."""
    if leaf == "A_log":
        return torch.zeros(parameter.shape, dtype=parameter.dtype, device=device)
    if leaf == "dt_bias":
        return torch.full(parameter.shape, -4.0, dtype=parameter.dtype, device=device)
    return torch.randn(parameter.shape, dtype=parameter.dtype, device=device) * SPREAD
