"""Qwen3.5, 3.6 and 3.8 dense: three Gated DeltaNet layers to one of gated full attention, text class only.

The published checkpoints are multimodal; the text class reads their language part and leaves vision and multi-token
prediction on the disk.
"""

from types import MappingProxyType

from finetune.families.base import Family
from finetune.families.calls import TaggedCalls
from finetune.families.gguf import GgufForm, value_head_columns, value_head_rows
from finetune.families.qwen_tokens import QWEN_TOKENS
from finetune.families.tokens import Supported

FULL_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LINEAR_ATTENTION = ("in_proj_qkv", "in_proj_z", "out_proj")
MLP = ("gate_proj", "up_proj", "down_proj")

# in_proj_a and in_proj_b set decay and beta of the recurrence: 48 outputs, nothing to save in 4 bit
GATES = ("in_proj_a", "in_proj_b")

QWEN3_5 = Family(
    name="qwen3_5",
    models="Qwen3.5, Qwen3.6 and Qwen3.8, dense",
    model_types=("qwen3_5", "qwen3_5_text"),
    targets=MappingProxyType(
        {
            "attention+mlp": FULL_ATTENTION + MLP,
            "attention+mlp+linear_attention": FULL_ATTENTION + MLP + LINEAR_ATTENTION,
            "attention": FULL_ATTENTION,
        }
    ),
    layer_targets=MappingProxyType(
        {"full_attention": FULL_ATTENTION, "linear_attention": LINEAR_ATTENTION, "mlp": MLP}
    ),
    keep_16bit=("lm_head", *GATES),
    tokens=QWEN_TOKENS,
    packing=Supported(),
    gguf=GgufForm("qwen35", rows=value_head_rows, columns=value_head_columns),
    wrapper="model.language_model",
    call_forms=(TaggedCalls(),),
    chat_template_kwargs=MappingProxyType({"enable_thinking": False}),
)
