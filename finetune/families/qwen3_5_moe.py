"""Qwen3.5 and 3.6 with a mixture of experts: the layers of qwen3_5, its MLP replaced by a router, experts and one
expert that every token passes. Text class only, from the multimodal checkpoint.
"""

from types import MappingProxyType

from finetune.families.base import Family
from finetune.families.calls import TaggedCalls
from finetune.families.gguf import GgufForm, value_head_columns, value_head_rows
from finetune.families.mixtures import EXPERTS, FUSED_EXPERTS, SPLIT_EXPERTS, UNPROVEN
from finetune.families.qwen3_5 import FULL_ATTENTION, GATES, LINEAR_ATTENTION, MLP
from finetune.families.qwen_tokens import QWEN_TOKENS

QWEN3_5_MOE = Family(
    name="qwen3_5_moe",
    models="Qwen3.5 and Qwen3.6 with experts (35B-A3B, 122B-A10B, 397B-A17B)",
    model_types=("qwen3_5_moe", "qwen3_5_moe_text"),
    # mlp is the shared expert here: the others would hold most of the adapter's parameters, each seen by few tokens
    targets=MappingProxyType(
        {
            "attention+mlp": FULL_ATTENTION + MLP,
            "attention+mlp+linear_attention": FULL_ATTENTION + MLP + LINEAR_ATTENTION,
            "attention": FULL_ATTENTION,
            "attention+mlp+linear_attention+experts": FULL_ATTENTION + MLP + LINEAR_ATTENTION + EXPERTS,
        }
    ),
    layer_targets=MappingProxyType(
        {"full_attention": FULL_ATTENTION, "linear_attention": LINEAR_ATTENTION, "mlp": MLP, "experts": EXPERTS}
    ),
    # shared_expert_gate has one output
    keep_16bit=("lm_head", *GATES, "shared_expert_gate"),
    tokens=QWEN_TOKENS,
    packing=UNPROVEN,
    gguf=GgufForm("qwen35moe", rows=value_head_rows, columns=value_head_columns),
    experts=EXPERTS,
    mixture=FUSED_EXPERTS,
    split_experts=SPLIT_EXPERTS,
    wrapper="model.language_model",
    call_forms=(TaggedCalls(),),
    chat_template_kwargs=MappingProxyType({"enable_thinking": False}),
)
