"""Read the shape of a base off its configuration: the model is built on the meta device, so no weight is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune.contracts.code_references import refuse_code_in
from finetune.contracts.errors import BaseModelError, RecipeError
from finetune.model.activations import measure_layers
from finetune.model.identity import CONFIG_NAME
from finetune.model.quiet import quiet_libraries
from finetune.plan.shape import Activations, LayerShape, LinearMaps, ModelShape
from finetune.plan.speed import delta_rule_flops

HINT = "Give base.path a folder whose config.json is that of a text model which the pinned transformers knows."
BF16 = 2


def read_shape(folder: Path, *, targets: Sequence[str], rank: int) -> ModelShape:
    """The shape of the base in folder, which need hold no more than config.json.

    targets and rank are the adapter's: what a layer keeps for backward depends on which of its maps carry one. Raises
    BaseModelError for a configuration of which no text model can be built, RecipeError for a target that is not there.
    """
    with quiet_libraries():
        model = meta_model(folder)
        config = model.config
        layers = decoder_layers(model)
        found = _Parts(model, layers, _active_experts(config))
        _check_targets(found.maps, targets)
        groups = _alike(layers, config)
        # before adapters are put on them
        largest = max(sum(part.numel() for part in layer.parameters()) for layer in layers)
        measured = measure_layers(model, [layer for _, layer, _ in groups], targets=targets, rank=rank)
    return ModelShape(
        hidden=config.hidden_size,
        vocabulary=model.get_input_embeddings().weight.shape[0],
        tied=bool(config.tie_word_embeddings),
        maps=found.maps,
        other_parameters=found.other_parameters,
        layers=tuple(
            _layer_shape(kind, count, layer, config=config, costs=costs)
            for (kind, layer, count), costs in zip(groups, measured, strict=True)
        ),
        cache_bytes=_cache_bytes(layers, config),
        largest_layer=largest,
    )


def meta_model(folder: Path) -> Any:
    """The text model of a folder's config.json in bfloat16, without memory behind its weights."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM

    if (folder / CONFIG_NAME).is_file():
        refuse_code_in(folder / CONFIG_NAME, error=BaseModelError)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config.get_text_config(), dtype=torch.bfloat16)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, StrictDataclassError) as cause:
        raise BaseModelError(f"No model can be built from {folder / 'config.json'}: {cause}.", HINT) from cause


class _Parts:
    """The parameters of a model sorted into linear maps of the layers and the rest."""

    def __init__(self, model: Any, layers: Sequence[nn.Module], active: int) -> None:
        counts: dict[tuple[str, int, int, int], int] = {}
        self.other_parameters = 0
        for name, parameter, owner in _parameters(model):
            key = _map_key(name, parameter, owner)
            if key is None:
                self.other_parameters += parameter.numel()
            else:
                counts[key] = counts.get(key, 0) + 1
        self.maps = tuple(
            LinearMaps(name, inputs, outputs, count, experts=experts, active=min(active, experts))
            for (name, inputs, outputs, experts), count in counts.items()
        )


def _parameters(model: Any) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """(full name, parameter, its module) of all but the embedding and the head."""
    apart = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    for module_name, module in model.named_modules():
        if id(module) in apart:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            yield f"{module_name}.{name}", parameter, module


def _map_key(name: str, parameter: nn.Parameter, owner: nn.Module) -> tuple[str, int, int, int] | None:
    """(last name, inputs, outputs, experts) of a linear map; None for any other parameter."""
    if isinstance(owner, nn.Linear) and name.endswith(".weight"):
        return name.split(".")[-2], owner.in_features, owner.out_features, 1
    if parameter.dim() == 3 and "experts" in name.split("."):
        # Fused experts: (experts, outputs, inputs), or the last two the other way round in some families
        experts, outputs, inputs = parameter.shape
        return "experts." + name.rpartition(".")[2], inputs, outputs, experts
    return None


def _check_targets(maps: Sequence[LinearMaps], targets: Sequence[str]) -> None:
    names = {part.name for part in maps}
    unmatched = [target for target in targets if target not in names]
    if unmatched:
        raise RecipeError(
            f"lora.targets: the base has no linear map called {', '.join(unmatched)}.",
            f"It has {', '.join(sorted(names))}; choose another preset.",
        )


def decoder_layers(model: Any) -> list[nn.Module]:
    """The layers that are repeated, in order."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _alike(layers: Sequence[nn.Module], config: Any) -> list[tuple[str, nn.Module, int]]:
    """(kind, first layer, how many) of layers with one kind and one set of shapes."""
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * len(layers)
    groups: dict[tuple, list[nn.Module]] = {}
    for kind, layer in zip(kinds, layers, strict=True):
        shapes = tuple((name, tuple(part.shape)) for name, part in layer.named_parameters())
        groups.setdefault((kind, shapes), []).append(layer)
    return [(kind, members[0], len(members)) for (kind, _), members in groups.items()]


@dataclass(frozen=True)
class _Heads:
    """Sizes of attention heads."""

    queries: int
    keys: int
    key_size: int
    value_size: int


def _heads(config: Any) -> _Heads:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return _Heads(
        queries=config.num_attention_heads,
        keys=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        key_size=getattr(config, "qk_head_dim", None) or size,
        value_size=getattr(config, "v_head_dim", None) or size,
    )


def _layer_shape(
    kind: str, count: int, layer: nn.Module, *, config: Any, costs: tuple[Activations, Activations]
) -> LayerShape:
    fast, plain = costs
    if linear := linear_attention(layer):
        flops = delta_rule_flops(heads=linear.num_v_heads, key_size=linear.head_k_dim, value_size=linear.head_v_dim)
        return LayerShape(kind, count, fast, plain, attention_width=0, window=None, state_flops=flops)
    heads = _heads(config)
    width = heads.queries * (heads.key_size + heads.value_size) // 2
    window = getattr(config, "sliding_window", None) if kind == "sliding_attention" else None
    return LayerShape(kind, count, fast, plain, attention_width=width, window=window, state_flops=0.0)


def _cache_bytes(layers: Sequence[nn.Module], config: Any) -> int:
    heads = _heads(config)
    num_attending = sum(linear_attention(layer) is None for layer in layers)
    return num_attending * heads.keys * (heads.key_size + heads.value_size) * BF16


def linear_attention(layer: nn.Module) -> Any | None:
    """The module of layer that keeps a recurrent state by the gated delta rule, None where it has none."""
    for module in layer.modules():
        if hasattr(module, "head_k_dim") and hasattr(module, "head_v_dim") and hasattr(module, "num_v_heads"):
            return module
    return None


def _active_experts(config: Any) -> int:
    return int(getattr(config, "num_experts_per_tok", None) or 1)
