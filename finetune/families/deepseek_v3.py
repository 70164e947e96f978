"""DeepSeek-V3, R1 and smaller bases of the same architecture: latent attention, some dense layers, then experts.

Tokens as in the published tokenizer of DeepSeek-V3. Multi-token prediction layers are left on the disk.
"""

from collections.abc import Mapping
from types import MappingProxyType

from finetune.families.base import Family
from finetune.families.dense import MLP
from finetune.families.mixtures import EXPERTS, FUSED_EXPERTS, NO_DENSE_MLP, SPLIT_EXPERTS, UNPROVEN
from finetune.families.tokens import Experimental, Sentinels, TokenForm

LATENT_ATTENTION = ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")

DEEPSEEK_TOKENS = TokenForm(
    name="DeepSeek-V3",
    document_start="<｜begin▁of▁sentence｜>",
    document_end="<｜end▁of▁sentence｜>",
    turn_start="<｜User｜>",
    turn_end="<｜end▁of▁sentence｜>",
    infill=Experimental("its report says that a tenth of the pre-training rows were infill (arXiv 2412.19437)"),
    sentinels=Sentinels(fim_prefix="<｜fim▁begin｜>", fim_suffix="<｜fim▁hole｜>", fim_middle="<｜fim▁end｜>"),
    infill_stops=("<｜end▁of▁sentence｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
)


def _absent(config: Mapping[str, object]) -> frozenset[str]:
    """Queries come from one map, or from two with a narrow middle."""
    return frozenset({"q_proj"}) if config.get("q_lora_rank") else frozenset({"q_a_proj", "q_b_proj"})


DEEPSEEK_V3 = Family(
    name="deepseek_v3",
    models="DeepSeek-V3 and R1 (671B: many cards), smaller bases of that architecture",
    model_types=("deepseek_v3",),
    targets=MappingProxyType({"attention": LATENT_ATTENTION, "attention+experts": LATENT_ATTENTION + EXPERTS}),
    # mlp is the dense layers and the shared experts
    layer_targets=MappingProxyType({"full_attention": LATENT_ATTENTION, "mlp": MLP, "experts": EXPERTS}),
    keep_16bit=("lm_head",),
    tokens=DEEPSEEK_TOKENS,
    packing=UNPROVEN,
    experts=EXPERTS,
    mixture=FUSED_EXPERTS,
    split_experts=SPLIT_EXPERTS,
    refused=MappingProxyType(
        {"deepseek_v2": "not tested", "deepseek_v32": "its sparse attention is not tested", "deepseek_v4": "not tested"}
    ),
    untrained=NO_DENSE_MLP,
    absent=_absent,
)
