"""Qwen3 and Qwen3-Coder with a mixture of experts. All layers have experts, unless the configuration says otherwise."""

from dataclasses import replace
from types import MappingProxyType

from finetune.families.base import Family
from finetune.families.calls import JsonCalls, TaggedCalls
from finetune.families.dense import ATTENTION, MLP
from finetune.families.gguf import GgufForm
from finetune.families.mixtures import EXPERTS, FUSED_EXPERTS, NO_DENSE_MLP, SPLIT_EXPERTS, UNPROVEN
from finetune.families.qwen_tokens import QWEN_TOKENS
from finetune.families.tokens import Experimental

QWEN3_MOE = Family(
    name="qwen3_moe",
    models="Qwen3-Coder (30B-A3B, 480B-A35B), Qwen3 with experts (30B-A3B, 235B-A22B)",
    model_types=("qwen3_moe",),
    targets=MappingProxyType({"attention": ATTENTION, "attention+experts": ATTENTION + EXPERTS}),
    layer_targets=MappingProxyType({"full_attention": ATTENTION, "mlp": MLP, "experts": EXPERTS}),
    keep_16bit=("lm_head",),
    tokens=replace(
        QWEN_TOKENS,
        infill=Experimental("Qwen3-Coder fills in from plain text, not from a chat turn; plain Qwen3 does it badly"),
    ),
    packing=UNPROVEN,
    gguf=GgufForm("qwen3moe"),
    experts=EXPERTS,
    mixture=FUSED_EXPERTS,
    split_experts=SPLIT_EXPERTS,
    # Qwen3-Coder has tags, plain Qwen3 JSON
    call_forms=(JsonCalls(), TaggedCalls()),
    chat_template_kwargs=MappingProxyType({"enable_thinking": False}),
    untrained=NO_DENSE_MLP,
)
