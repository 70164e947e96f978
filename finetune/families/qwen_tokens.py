"""The special tokens of the Qwen tokenizers, which its families share."""

from dataclasses import replace

from finetune.families.tokens import Experimental, Sentinels, TokenForm, Unsupported

QWEN_TOKENS = TokenForm(
    name="Qwen2.5 and later",
    document_start=None,
    document_end="<|endoftext|>",
    turn_start="<|im_start|>",
    turn_end="<|im_end|>",
    infill=Experimental(
        "the makers do not document it for this line; users report that the form of Qwen2.5-Coder works: compare with "
        "`finetune evaluate` what the base does alone"
    ),
    sentinels=Sentinels(
        fim_prefix="<|fim_prefix|>",
        fim_suffix="<|fim_suffix|>",
        fim_middle="<|fim_middle|>",
        repo_name="<|repo_name|>",
        file_sep="<|file_sep|>",
    ),
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
)

QWEN2_TOKENS = replace(
    QWEN_TOKENS,
    name="Qwen2",
    infill=Unsupported("its tokenizer has no infill tokens; Qwen2.5 and later have"),
    sentinels=None,
    infill_stops=(),
)
