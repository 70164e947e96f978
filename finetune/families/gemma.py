"""Gemma 1, CodeGemma, and the text checkpoints of Gemma 3. CodeGemma alone has infill tokens.

Gemma needs its start token: without it, it does not write sense.
"""

from dataclasses import replace
from types import MappingProxyType

from finetune.families.base import Family
from finetune.families.dense import LAYER_TARGETS, TARGETS
from finetune.families.tokens import Experimental, Sentinels, Supported, TokenForm, Unsupported

GEMMA_TOKENS = TokenForm(
    name="Gemma",
    document_start="<bos>",
    document_end="<eos>",
    turn_start="<start_of_turn>",
    turn_end="<end_of_turn>",
    infill=Unsupported("its tokenizer has no infill tokens; CodeGemma's has"),
)

CODEGEMMA_TOKENS = replace(
    GEMMA_TOKENS,
    name="CodeGemma",
    infill=Experimental("the form is the published one; it was not tried on the published tokenizer"),
    sentinels=Sentinels(
        fim_prefix="<|fim_prefix|>",
        fim_suffix="<|fim_suffix|>",
        fim_middle="<|fim_middle|>",
        file_sep="<|file_separator|>",
    ),
    infill_stops=("<eos>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_separator|>"),
)

SOFTCAP = "it caps its logits after the head, which the fused loss and the scoring here leave out"
NO_TEXT_CLASS = "AutoModelForCausalLM loads it with its vision part"

GEMMA = Family(
    name="gemma",
    models="CodeGemma, Gemma 1, text checkpoints of Gemma 3 (270M, 1B)",
    model_types=("gemma", "gemma3_text"),
    targets=TARGETS,
    layer_targets=LAYER_TARGETS,
    keep_16bit=("lm_head",),
    tokens=CODEGEMMA_TOKENS,
    other_tokens=(GEMMA_TOKENS,),
    packing=Supported(),
    refused=MappingProxyType(
        {
            "gemma2": SOFTCAP,
            "gemma3": NO_TEXT_CLASS,
            "gemma3n": SOFTCAP,
            "gemma3n_text": SOFTCAP,
            "gemma4": NO_TEXT_CLASS,
            "gemma4_text": "its per-layer inputs and shared keys are not tested",
        }
    ),
)
