"""Mixtral: Mistral's attention over a mixture of experts in every layer."""

from types import MappingProxyType

from finetune.families.base import Family
from finetune.families.dense import ATTENTION
from finetune.families.gguf import GgufForm, rotary_rows
from finetune.families.mistral import MISTRAL_TOKENS
from finetune.families.mixtures import EXPERTS, FUSED_EXPERTS, UNPROVEN

MIXTRAL = Family(
    name="mixtral",
    models="Mixtral 8x7B and 8x22B",
    model_types=("mixtral",),
    targets=MappingProxyType({"attention": ATTENTION, "attention+experts": ATTENTION + EXPERTS}),
    layer_targets=MappingProxyType({"full_attention": ATTENTION, "experts": EXPERTS}),
    keep_16bit=("lm_head",),
    tokens=MISTRAL_TOKENS,
    packing=UNPROVEN,
    gguf=GgufForm("llama", rows=rotary_rows),
    experts=EXPERTS,
    mixture=FUSED_EXPERTS,
    split_experts=MappingProxyType(
        {
            "mlp.experts.gate_up_proj": (
                "block_sparse_moe.experts.{}.w1.weight",
                "block_sparse_moe.experts.{}.w3.weight",
            ),
            "mlp.experts.down_proj": ("block_sparse_moe.experts.{}.w2.weight",),
        }
    ),
)
