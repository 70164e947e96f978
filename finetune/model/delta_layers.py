"""Which delta rule and convolution a model's Gated DeltaNet layers call: this project's own, or fused kernels."""

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from finetune.model.fused_delta import DeltaHeads, fused_causal_conv1d, fused_delta_rule, fused_problem
from finetune.model.gated_delta import causal_conv1d, chunk_gated_delta_rule
from finetune.terminal.output import note

# what a layer's forward calls the two functions that are replaced here
DELTA_RULE, CONVOLUTION = "torch_chunk_gated_delta_rule", "causal_conv1d_fn"
Functions = Mapping[str, Callable[..., Any]]
OWN: Functions = {DELTA_RULE: chunk_gated_delta_rule, CONVOLUTION: causal_conv1d}
FUSED: Functions = {DELTA_RULE: fused_delta_rule, CONVOLUTION: fused_causal_conv1d}


def use_fast_delta_rule(model: nn.Module) -> int:
    """Give each Gated DeltaNet layer of a Qwen3.5 model, dense or not, fast functions; returns how many layers changed.

    On a GPU these are fused kernels where they pass their proof, else, with a note, this project's own; on a CPU always
    its own. All of them keep packed rows apart. The layer's forward looks the functions up as globals of its module, so
    each layer gets a copy of that same forward with the two names rebound; the library itself, and models that were not
    passed in, stay as they are. Adapters on the layer's projections keep working: they are called through the layer's
    attributes as before.
    """
    from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet
    from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import Qwen3_5MoeGatedDeltaNet

    kinds = (Qwen3_5GatedDeltaNet, Qwen3_5MoeGatedDeltaNet)
    layers = [module for module in model.modules() if isinstance(module, kinds)]
    if layers:
        functions = functions_for(layers[0])
        for layer in layers:
            rebind_forward(layer, functions)
    return len(layers)


def uses_fused_kernels(model: nn.Module) -> bool:
    """Whether the model's linear attention runs on the fused kernels; True where it has none to run."""
    forwards = [getattr(module.forward, "__func__", None) for module in model.modules() if hasattr(module, "A_log")]
    return all(getattr(part, "__globals__", {}).get(DELTA_RULE) is fused_delta_rule for part in forwards)


def functions_for(layer: Any) -> Functions:
    """What this Gated DeltaNet layer calls, by the names that its forward knows; layers of a model are alike."""
    if layer.A_log.device.type != "cuda":
        return OWN
    problem = fused_problem(DeltaHeads(layer.num_k_heads, layer.num_v_heads, layer.head_k_dim, layer.head_v_dim))
    if not problem:
        return FUSED
    note(f"Gated DeltaNet runs in plain torch, slower and in more memory: {problem}.")
    return OWN


def rebind_forward(layer: nn.Module, names: Functions) -> None:
    """Give this layer a copy of its class's forward that finds these functions under the names of its module's own.

    Raises RuntimeError when the forward calls nothing by one of the names.
    """
    layer_class = type(layer)
    original = inspect.unwrap(layer_class.forward)
    missing = names.keys() - set(original.__code__.co_names)
    if missing:
        raise RuntimeError(f"{layer_class.__name__}.forward no longer calls {sorted(missing)}; see delta_layers.py")
    rebound = types.FunctionType(
        original.__code__, {**original.__globals__, **names}, original.__name__, original.__defaults__
    )
    rebound.__kwdefaults__ = original.__kwdefaults__
    layer.forward = types.MethodType(rebound, layer)
