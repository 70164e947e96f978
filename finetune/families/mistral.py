"""Mistral 7B, Mistral Nemo, Codestral and other text checkpoints of the model type mistral.

Codestral puts the text after the gap first ([SUFFIX] text [PREFIX] text), which this project's rows do not.
"""

from types import MappingProxyType

from finetune.families.base import Family
from finetune.families.dense import LAYER_TARGETS, TARGETS
from finetune.families.gguf import GgufForm, rotary_rows
from finetune.families.tokens import Supported, TokenForm, Unsupported

MISTRAL_TOKENS = TokenForm(
    name="Mistral",
    document_start="<s>",
    document_end="</s>",
    # one token in tokenizers of version 2 and later, plain text in the first
    turn_start=None,
    turn_end="</s>",
    infill=Unsupported("only Codestral was trained to fill in, with the text after the gap first, which is not built"),
)

MISTRAL = Family(
    name="mistral",
    models="Mistral 7B, Mistral Nemo, Codestral",
    model_types=("mistral",),
    targets=TARGETS,
    layer_targets=LAYER_TARGETS,
    keep_16bit=("lm_head",),
    tokens=MISTRAL_TOKENS,
    packing=Supported(),
    gguf=GgufForm("llama", rows=rotary_rows),
    refused=MappingProxyType(
        {"mistral3": "AutoModelForCausalLM has no text class for this multimodal type", "ministral3": "not tested"}
    ),
)
