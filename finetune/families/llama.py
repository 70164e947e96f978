"""Llama 2, Llama 3 and what was published under their model type.

CodeLlama's infill form needs text encoded without the space that its tokenizer puts before each piece, so it is not
offered. DeepSeek-Coder's form (prefix, hole, end) is this project's order under other names.
"""

from finetune.families.base import Family
from finetune.families.dense import LAYER_TARGETS, TARGETS
from finetune.families.gguf import GgufForm, rotary_rows
from finetune.families.tokens import Experimental, Sentinels, Supported, TokenForm, Unsupported

LLAMA3 = TokenForm(
    name="Llama 3",
    document_start="<|begin_of_text|>",
    document_end="<|end_of_text|>",
    turn_start="<|start_header_id|>",
    turn_end="<|eot_id|>",
    infill=Unsupported("Llama 3 has no infill tokens"),
)

DEEPSEEK_CODER = TokenForm(
    name="DeepSeek-Coder",
    document_start="<｜begin▁of▁sentence｜>",
    document_end="<｜end▁of▁sentence｜>",
    turn_start=None,
    turn_end="<|EOT|>",
    infill=Experimental("the form is the published one; it was not tried on the published tokenizer"),
    sentinels=Sentinels(fim_prefix="<｜fim▁begin｜>", fim_suffix="<｜fim▁hole｜>", fim_middle="<｜fim▁end｜>"),
    infill_stops=("<｜end▁of▁sentence｜>", "<|EOT|>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
)

LLAMA2 = TokenForm(
    name="Llama 2, CodeLlama",
    document_start="<s>",
    document_end="</s>",
    turn_start=None,
    turn_end="</s>",
    infill=Unsupported(
        "Llama 2 has no infill tokens, and CodeLlama's form needs text without the space that its tokenizer puts first"
    ),
)

LLAMA = Family(
    name="llama",
    models="Llama 3.1, 3.2 and 3.3, Llama 2, CodeLlama, DeepSeek-Coder 1.3B to 33B",
    model_types=("llama",),
    targets=TARGETS,
    layer_targets=LAYER_TARGETS,
    keep_16bit=("lm_head",),
    tokens=LLAMA3,
    other_tokens=(DEEPSEEK_CODER, LLAMA2),
    packing=Supported(),
    gguf=GgufForm("llama", rows=rotary_rows),
)
