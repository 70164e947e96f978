"""Qwen2, Qwen2.5 and Qwen2.5-Coder, dense. The Coder line was trained to fill in (arXiv 2409.12186)."""

from dataclasses import replace

from finetune.families.base import Family
from finetune.families.calls import JsonCalls
from finetune.families.dense import LAYER_TARGETS, TARGETS
from finetune.families.gguf import GgufForm
from finetune.families.qwen_tokens import QWEN2_TOKENS, QWEN_TOKENS
from finetune.families.tokens import Experimental, Supported

QWEN2 = Family(
    name="qwen2",
    models="Qwen2.5-Coder, Qwen2.5, Qwen2",
    model_types=("qwen2",),
    targets=TARGETS,
    layer_targets=LAYER_TARGETS,
    keep_16bit=("lm_head",),
    tokens=replace(
        QWEN_TOKENS,
        infill=Experimental("Qwen2.5-Coder was trained to fill in; plain Qwen2.5 has the tokens, not the training"),
    ),
    other_tokens=(QWEN2_TOKENS,),
    packing=Supported(),
    gguf=GgufForm("qwen2"),
    call_forms=(JsonCalls(),),
)
