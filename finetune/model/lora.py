"""Attach LoRA factors to a base: explicit targets, each of which must match; float32 while they are trained.

A target is the last part of a linear module's name, or of a fused expert tensor's with its module: experts.down_proj.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune.contracts.adapter import ADAPTER_WEIGHTS_NAME
from finetune.contracts.adapter_files import check_base, read_adapter
from finetune.contracts.errors import AdapterError, RecipeError
from finetune.families.base import Family
from finetune.model.adapter_keys import text_state
from finetune.model.loading import LoadedBase
from finetune.model.quiet import quiet_libraries
from finetune.model.shape import meta_model
from finetune.model.weight_layout import forbid_packing
from finetune.recipe.resolve import ResolvedLora

TRAINED_ADAPTER = "default"


def attach(base: LoadedBase, section: ResolvedLora, *, seed: int = 0) -> Any:
    """Wrap base.model, in place, in a PeftModel with fresh factors, ready to train: A is random by seed, B is 0.

    Raises RecipeError naming the targets that match nothing, or dropout on fused experts, which PEFT cannot apply.
    """
    unmatched = [target for target in section.targets if not _matches(base.model, target)]
    if unmatched:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear_names(base.model)} - {"lm_head"}))
        raise RecipeError(
            f"lora.targets: no linear module of {base.identity.name} is called {', '.join(unmatched)}.",
            f"Its linear modules are {known}; choose another preset of the family {base.family.name}.",
        )
    fused = [target for target in section.targets if matching_tensors(base.model, target)]
    if fused and section.dropout:
        raise RecipeError(
            f"lora.dropout is {section.dropout}, which cannot be applied to {', '.join(fused)}.",
            "Set lora.dropout to 0, or choose a preset without experts.",
        )
    with quiet_libraries():
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=section.rank,
            lora_alpha=section.alpha,
            lora_dropout=section.dropout,
            use_rslora=section.rank_stabilized,
            target_modules=[target for target in section.targets if target not in fused],
            target_parameters=fused or None,
            bias="none",
            task_type="CAUSAL_LM",
        )
        _reach_packed_experts(config, base.model)
        torch.manual_seed(seed)
        model = get_peft_model(base.model, config, adapter_name=TRAINED_ADAPTER)
    # PEFT rewrites the targets of some mixtures, as their adapters were named before the library fused the experts
    found = {*config.target_modules, *(config.target_parameters or ())}
    assert found == set(section.targets) and not config.rank_pattern, f"PEFT made {found} of {section.targets}"
    # PEFT copies the folder from the model; a path of this machine must not travel with the adapter
    config.base_model_name_or_path = base.identity.name
    cast_trainables(model)
    forbid_packing(model)
    return model


def cast_trainables(model: nn.Module) -> int:
    """Hold every trainable parameter in float32 and return how many numbers they are.

    In bfloat16 most steps of a small learning rate round to nothing: at 1e-5, 72 % of the entries of A do not move.
    """
    count = 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        assert "lora_" in name, f"{name} is trainable but belongs to no adapter"
        parameter.data = parameter.data.float()
        count += parameter.numel()
    assert count, "nothing is trainable"
    return count


def count_trainable(path: Path, section: ResolvedLora) -> int:
    """Numbers that an adapter of this section would train over the base in the folder path; no weights are read."""
    with quiet_libraries():
        model = meta_model(path)
    modules = [model.get_submodule(name) for target in section.targets for name in matching_modules(model, target)]
    tensors = [tensor for target in section.targets for tensor in matching_tensors(model, target)]
    num_rows = sum(module.in_features + module.out_features for module in modules)
    return section.rank * (num_rows + sum(len(tensor) * sum(tensor.shape[1:]) for tensor in tensors))


def linear_names(model: nn.Module) -> list[str]:
    """Full names of the linear modules, adapters' own factors left out."""
    return [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and ".lora_" not in name]


def matching_modules(model: nn.Module, target: str) -> list[str]:
    """Names of the linear modules whose last part is target."""
    return [name for name in linear_names(model) if name.rpartition(".")[2] == target]


def matching_tensors(model: nn.Module, target: str) -> list[torch.Tensor]:
    """The parameters whose name ends in target, if target names a parameter with its module."""
    return [part for name, part in model.named_parameters() if "." in target and name.endswith(f".{target}")]


def layer_kinds(base: LoadedBase, targets: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Kinds of layer of this base that the targets cover, and those that they leave as they are."""
    names = {name.rpartition(".")[2] for name in _plain_names(base.model)}
    # the wrapper of a fused tensor puts itself between its module and what lies inside
    parameters = [name.replace(".base_layer", "") for name, _ in base.model.named_parameters()]
    fused = {target for target in base.family.experts if any(name.endswith(f".{target}") for name in parameters)}
    present = _present_kinds(base.family, names | fused)
    covered = tuple(kind for kind, suffixes in present.items() if set(suffixes) & set(targets))
    return covered, tuple(kind for kind in present if kind not in covered)


def attach_saved(base: LoadedBase, folder: Path, name: str, *, onto: Any = None) -> Any:
    """Load the adapter in folder over base under name, for evaluation and serving; returns the PeftModel.

    onto is the PeftModel that holds other adapters of this base already, None for the first. Raises AdapterError when
    a file is damaged, when the adapter was made for another base, or when its tensors do not fit.
    """
    manifest = read_adapter(folder)
    check_base(manifest, base.identity, chat_template=base.chat_template_digest, tokenizer=base.tokenizer_digest)
    from safetensors.torch import load_file

    state = text_state(load_file(folder / ADAPTER_WEIGHTS_NAME), manifest)
    model = attach_state(base.model, state, folder=folder, name=name, onto=onto)
    model.peft_config[name].base_model_name_or_path = base.identity.name
    return model


def attach_state(base_model: Any, state: dict[str, torch.Tensor], *, folder: Path, name: str, onto: Any = None) -> Any:
    """Load state, the tensors of the adapter in folder by base_model's own names, over base_model; as attach_saved."""
    with quiet_libraries():
        from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

        config = LoraConfig.from_pretrained(str(folder))
        config.inference_mode = True
        # PEFT warns when the folder that it reads from the model is not the name that the adapter carries
        config.base_model_name_or_path = None
        _reach_packed_experts(config, base_model)
        if onto is None:
            model = get_peft_model(base_model, config, adapter_name=name)
        else:
            model = onto
            model.add_adapter(name, config)
        result = set_peft_model_state_dict(model, state, adapter_name=name)
    _check_fit(result, state, folder=folder, name=name)
    model.set_adapter(name, inference_mode=True)
    model.eval()
    return model


def load_trained(model: Any, folder: Path) -> None:
    """Give the adapter that attach made the weights of a checkpoint's folder, bit for bit."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    result = set_peft_model_state_dict(model, load_file(folder / ADAPTER_WEIGHTS_NAME), adapter_name=TRAINED_ADAPTER)
    assert not result.unexpected_keys, result.unexpected_keys


def detach(model: Any, name: str) -> Any:
    """Take the adapter name off. Returns the PeftModel while it holds other adapters, else the bare base model."""
    if set(model.peft_config) == {name}:
        return model.unload()
    model.delete_adapter(name)
    return model


def _matches(model: nn.Module, target: str) -> bool:
    return bool(matching_modules(model, target) or matching_tensors(model, target))


def _reach_packed_experts(config: Any, model: nn.Module) -> None:
    """Let PEFT wrap fused tensors that are packed in 4 bits by the one wrapper that can; others it wraps by itself."""
    if not config.target_parameters:
        return
    from finetune.model.experts import ParamWrapper, is_packed

    leaves = {target.rpartition(".")[2] for target in config.target_parameters}
    packed = {type(module) for module in model.modules() for leaf in leaves if is_packed(module, leaf)}
    config._register_custom_module(dict.fromkeys(packed, ParamWrapper))


def _check_fit(result: Any, state: dict[str, torch.Tensor], *, folder: Path, name: str) -> None:
    hint = "Load it over the base it was trained on, with the library versions of requirements.lock."
    unexpected = sorted(result.unexpected_keys)
    if unexpected or not state:
        what = unexpected[0] if unexpected else "any tensor"
        raise AdapterError(f"{folder / ADAPTER_WEIGHTS_NAME}: the base has no place for {what}.", hint)
    missing = sorted(key for key in result.missing_keys if "lora_" in key and f".{name}." in key)
    if missing:
        raise AdapterError(f"{folder / ADAPTER_WEIGHTS_NAME} lacks {missing[0]}.", hint)


def _plain_names(model: nn.Module) -> list[str]:
    return [name.removesuffix(".base_layer") for name in linear_names(model)]


def _present_kinds(family: Family, suffixes: set[str]) -> dict[str, tuple[str, ...]]:
    return {kind: names for kind, names in family.layer_targets.items() if suffixes & set(names)}
