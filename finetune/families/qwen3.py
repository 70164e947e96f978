"""Qwen3, dense."""

from dataclasses import replace
from types import MappingProxyType

from finetune.families.base import Family
from finetune.families.calls import JsonCalls
from finetune.families.dense import LAYER_TARGETS, TARGETS
from finetune.families.gguf import GgufForm
from finetune.families.qwen_tokens import QWEN_TOKENS
from finetune.families.tokens import Experimental, Supported

QWEN3 = Family(
    name="qwen3",
    models="Qwen3, dense",
    model_types=("qwen3",),
    targets=TARGETS,
    layer_targets=LAYER_TARGETS,
    keep_16bit=("lm_head",),
    tokens=replace(
        QWEN_TOKENS,
        infill=Experimental("it has the infill tokens, but users report that it fills in badly before training"),
    ),
    packing=Supported(),
    gguf=GgufForm("qwen3"),
    call_forms=(JsonCalls(),),
    chat_template_kwargs=MappingProxyType({"enable_thinking": False}),
)
