"""Qwen3.5 and 3.6 dense: three Gated DeltaNet layers to one of gated full attention, text class only."""

from types import MappingProxyType

from finetune.families.base import Family, Sentinels, Supported

FULL_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LINEAR_ATTENTION = ("in_proj_qkv", "in_proj_z", "out_proj")
MLP = ("gate_proj", "up_proj", "down_proj")

QWEN3_5 = Family(
    name="qwen3_5",
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
    # in_proj_a and in_proj_b set decay and beta of the recurrence: 48 outputs, nothing to save in 4 bit
    keep_16bit=("lm_head", "in_proj_a", "in_proj_b"),
    sentinels=Sentinels(
        fim_prefix="<|fim_prefix|>",
        fim_suffix="<|fim_suffix|>",
        fim_middle="<|fim_middle|>",
        repo_name="<|repo_name|>",
        file_sep="<|file_sep|>",
    ),
    document_end="<|endoftext|>",
    turn_start="<|im_start|>",
    turn_end="<|im_end|>",
    infill_stops=(
        "<|endoftext|>",
        "<|im_end|>",
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        "<|fim_pad|>",
        "<|file_sep|>",
        "<|repo_name|>",
    ),
    packing=Supported(),
    chat_template_kwargs=MappingProxyType({"enable_thinking": False}),
)
