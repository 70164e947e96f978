"""Fused experts in 4 bits: quantised while they are read, multiplied one expert at a time, reached by an adapter.

The installed libraries do each half. bitsandbytes 0.50 can put a parametrization on a fused tensor, but PEFT 0.21's
ParamWrapper over it fails: it matches the tensor by full name alone, its second wrapper of a module meets the first
one's cached value, and what it registers for a forward pass it does not find again to remove. So the packed tensor lies
here as a plain uint8 parameter, transformers' ExpertsInterface calls the function below, and PEFT's own wrapper, its
layout of the factors included, hands them to it.

Shapes: a fused tensor is (experts, out, in); a state holds what bitsandbytes needs to unpack one expert.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, quantize_4bit
from peft.tuners.lora import layer as peft_layer
from torch import nn
from transformers import BitsAndBytesConfig
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name

METHOD = "nf4_with_experts"
COMPUTE_DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Factors:
    """One adapter on one fused tensor: a is (experts, rank, in), b (experts, out, rank)."""

    a: torch.Tensor
    b: torch.Tensor
    scaling: float


class PackedStates(nn.Module):
    """How to unpack each expert of one fused tensor, and the factors that lie on it during a forward pass.

    shape is that of the fused tensor. absmax is (experts, blocks) in 8 bits, its own scales (experts, blocks / 256).
    """

    absmax: torch.Tensor
    scales: torch.Tensor
    offset: torch.Tensor
    code: torch.Tensor
    scale_code: torch.Tensor

    def __init__(self, states: list[QuantState]) -> None:
        super().__init__()
        first = states[0]
        self.shape = (len(states), *first.shape)
        self.blocksize, self.scale_blocksize = first.blocksize, first.state2.blocksize
        self.factors: list[Factors] = []
        tensors = {
            "absmax": torch.stack([state.absmax for state in states]),
            "scales": torch.stack([state.state2.absmax for state in states]),
            "offset": torch.stack([state.offset for state in states]),
            "code": first.code,
            "scale_code": first.state2.code,
        }
        # persistent: transformers overwrites buffers that are not, once everything is loaded
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def state(self, expert: int) -> QuantState:
        """bitsandbytes' state of one expert's (out, in) matrix."""
        nested = QuantState(
            absmax=self.scales[expert], blocksize=self.scale_blocksize, code=self.scale_code, dtype=torch.float32
        )
        return QuantState(
            absmax=self.absmax[expert],
            shape=torch.Size(self.shape[1:]),
            code=self.code,
            blocksize=self.blocksize,
            quant_type="nf4",
            dtype=COMPUTE_DTYPE,
            offset=self.offset[expert],
            state2=nested,
        )


def is_packed(experts: nn.Module, name: str) -> bool:
    """Whether the fused tensor of this name is held in 4 bits."""
    return isinstance(getattr(experts, states_name(name), None), PackedStates)


def states_name(name: str) -> str:
    """Where the states of a fused tensor lie, beside it."""
    return f"{name}_states"


def pack(experts: nn.Module, name: str, value: torch.Tensor) -> nn.Parameter:
    """Quantise a fused tensor expert by expert, keep the states on its module, and return the packed parameter."""
    if value.shape[-1] * value.shape[-2] % 64:
        raise ValueError(
            f"{name}: an expert's matrix of {value.shape[-2]} x {value.shape[-1]} is no whole number of 64"
        )
    pairs = [quantize_4bit(expert, compress_statistics=True, quant_type="nf4") for expert in value.unbind(0)]
    experts.add_module(states_name(name), PackedStates([state for _, state in pairs]))
    return nn.Parameter(torch.stack([packed.flatten() for packed, _ in pairs]), requires_grad=False)


def expect_packed(experts: nn.Module, name: str) -> None:
    """Make a fused tensor of a model without weights a place for what pack leaves of it, all on the meta device."""
    shape = getattr(experts, name).shape
    # a model without weights is built where every new tensor is on the meta device
    with torch.device("cpu"):
        zeros = torch.zeros(shape[1:], dtype=COMPUTE_DTYPE)
        packed, state = quantize_4bit(zeros, compress_statistics=True, quant_type="nf4")
        states = PackedStates([state] * shape[0])
    # such a model is built with another default dtype too, in which bitsandbytes would make its tables
    experts.add_module(states_name(name), states.to("meta", torch.float32))
    place = torch.empty(shape[0], packed.numel(), dtype=packed.dtype, device="meta")
    setattr(experts, name, nn.Parameter(place, requires_grad=False))


@register_quantization_config(METHOD)
class ExpertsConfig(BitsAndBytesConfig):
    """BitsAndBytesConfig under which fused experts are 4-bit too. experts: suffixes of their names."""

    def __init__(self, *, experts: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "load_in_4bit": True})
        self.experts = tuple(experts)
        self.quant_method = METHOD

    def to_dict(self) -> dict[str, Any]:
        """As config.json holds it. With the word load_in_4bit the library would take it for bitsandbytes' own."""
        kept = {name: value for name, value in super().to_dict().items() if "load_in" not in name}
        return {**kept, "experts": list(self.experts)}


class _QuantiseExperts(Bnb4bitQuantize):
    def convert(self, input_dict: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        (name, value), *others = input_dict.items()
        if others or not self.hf_quantizer.is_fused(name):
            return super().convert(input_dict, **kwargs)
        experts, leaf = get_module_from_name(kwargs["model"], name)
        return {name: pack(experts, leaf, value[0] if isinstance(value, list) else value)}


@register_quantizer(METHOD)
class ExpertsQuantizer(Bnb4BitHfQuantizer):
    """The library's 4-bit quantizer, which packs each fused tensor as soon as it is read and lets the 16 bits go."""

    def is_fused(self, name: str) -> bool:
        """Whether the parameter of this full name is a fused tensor."""
        return name.endswith(self.quantization_config.experts)

    def param_needs_quantization(self, model: Any, param_name: str, **kwargs: Any) -> bool:
        return self.is_fused(param_name) or super().param_needs_quantization(model, param_name, **kwargs)

    def _process_model_before_weight_loading(self, model: Any, device_map: Any = None, **kwargs: Any) -> None:
        super()._process_model_before_weight_loading(model, device_map, **kwargs)
        if not self.pre_quantized:
            return
        for full, _ in list(model.named_parameters()):
            if self.is_fused(full):
                expect_packed(*get_module_from_name(model, full))

    def get_quantize_ops(self) -> _QuantiseExperts:
        return _QuantiseExperts(self)


def packed_experts_forward(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """The experts' part of a layer: hidden_states (tokens, hidden), the other two (tokens, chosen); (tokens, hidden).

    Only the experts that some token chose are unpacked, one after the other, in the backward pass once more.
    """
    result = torch.zeros_like(hidden_states)
    num_chosen = top_k_index.shape[-1]
    order = top_k_index.flatten().argsort(stable=True)
    counts = torch.bincount(top_k_index.flatten(), minlength=self.num_experts).tolist()
    weights = top_k_weights.flatten()
    for expert, places in enumerate(order.split(counts)):
        if not len(places):
            continue
        tokens = places // num_chosen
        inner = self._apply_gate(_project(self, "gate_up_proj", hidden_states[tokens], expert=expert))
        output = _project(self, "down_proj", inner, expert=expert) * weights[places, None]
        result = result.index_add(0, tokens, output.to(result.dtype))
    return result


ALL_EXPERTS_FUNCTIONS.register(METHOD, packed_experts_forward)


def _project(experts: Any, name: str, x: torch.Tensor, *, expert: int) -> torch.Tensor:
    """x (tokens, in) through one expert's matrix and the adapters on it; (tokens, out)."""
    states: PackedStates = getattr(experts, states_name(name))
    result = bnb.matmul_4bit(x.to(COMPUTE_DTYPE), getattr(experts, name)[expert], quant_state=states.state(expert))
    for factors in states.factors:
        a, b = factors.a[expert], factors.b[expert]
        result = result + (x.to(a.dtype) @ a.T @ b.T * factors.scaling).to(result.dtype)
    return result


class ParamWrapper(peft_layer.ParamWrapper):
    """PEFT's wrapper of a fused tensor, for one that is packed. Its name is PEFT's too: PEFT looks for it by that."""

    def get_param(self) -> torch.Tensor:
        """A stand-in of the fused tensor's shape and place; it takes no memory and holds no values."""
        experts = self.get_base_layer()
        states = getattr(experts, states_name(self.parameter_name))
        packed = getattr(experts, self.parameter_name)
        return torch.empty(1, dtype=COMPUTE_DTYPE, device=packed.device).expand(states.shape)

    @contextmanager
    def _activate_lora(self, active_adapters: list[str]) -> Iterator[None]:
        states: PackedStates = getattr(self.get_base_layer(), states_name(self.parameter_name))
        states.factors = [self._factors(name) for name in active_adapters if name in self.lora_A]
        try:
            yield
        finally:
            states.factors = []

    def _factors(self, adapter: str) -> Factors:
        # the layout is ParamWrapper.get_delta_factors': rows of A by expert, columns of B by rank
        a, b = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        return Factors(
            a=a.reshape(self.num_experts, -1, a.shape[-1]),
            b=b.reshape(b.shape[0], -1, self.num_experts).permute(2, 0, 1),
            scaling=self.scaling[adapter],
        )

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        raise RuntimeError("an adapter is not merged into 4-bit experts: merge it into the 16-bit base")
