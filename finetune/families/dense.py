"""What families of plain decoders share: names of their linear maps and the presets over them."""

from collections.abc import Mapping
from types import MappingProxyType

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")

TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType({"attention+mlp": ATTENTION + MLP, "attention": ATTENTION})
LAYER_TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType({"full_attention": ATTENTION, "mlp": MLP})
