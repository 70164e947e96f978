"""What families with a mixture of experts share: names of the fused tensors, and how far they are served."""

from collections.abc import Mapping
from types import MappingProxyType

from finetune.families.tokens import Experimental, Unsupported

EXPERTS = ("experts.gate_up_proj", "experts.down_proj")

SPLIT_EXPERTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mlp.experts.gate_up_proj": ("mlp.experts.{}.gate_proj.weight", "mlp.experts.{}.up_proj.weight"),
        "mlp.experts.down_proj": ("mlp.experts.{}.down_proj.weight",),
    }
)

FUSED_EXPERTS = Experimental(
    "experts are held in 4 bits and an adapter can reach them, as tests on a CPU show; neither is measured on a GPU, "
    "and a preset with experts trains rank rows for every single expert"
)

UNPROVEN = Unsupported(
    "which experts its neighbours use changes how a row is rounded, so the proof cannot tell packed rows from a leak"
)

# peft.utils.transformers_weight_conversion, for adapters that were trained when each expert was a module of its own
NO_DENSE_MLP: Mapping[str, Unsupported] = MappingProxyType(
    {
        "mlp": Unsupported(
            "PEFT 0.21 takes gate_proj, up_proj and down_proj of this model type for the fused experts, at another rank"
        )
    }
)
