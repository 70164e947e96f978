"""The tokenizer: byte-level BPE of 8,192 tokens with the special tokens of Qwen3.5 by name, and a chat template."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

VOCABULARY = 8192
END = "<|endoftext|>"
SPECIAL = (
    END,
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<think>",
    "</think>",
)
# As in the published files: only these are flagged special; the others are added tokens all the same.
NUM_FLAGGED = 3
# Words, single digits, runs of punctuation with their line ends, and indentation: the split of the Qwen family.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)


def train_tokenizer(texts: Iterable[str], folder: Path) -> None:
    """Learn the merges from texts and save the tokenizer, in the library's format, into folder."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL[:NUM_FLAGGED]])
    inner.add_tokens([AddedToken(name, special=False, normalized=False) for name in SPECIAL[NUM_FLAGGED:]])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=END, pad_token=END, model_max_length=8192, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)


class Encoder:
    """Text to ids in which a special token's name inside the text stays plain text."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._inner: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._inner.encode_special_tokens = True
        vocabulary = self._inner.get_vocab(with_added_tokens=True)
        self.special: dict[str, int] = {name: vocabulary[name] for name in SPECIAL}

    def encode(self, text: str) -> list[int]:
        """Ids of text alone; names of the tokens that are not flagged special are broken up by a cut inside them."""
        ids: list[int] = []
        for part in _cut(text):
            ids += self._inner.encode(part, add_special_tokens=False).ids
        return ids


def _cut(text: str) -> list[str]:
    for name in SPECIAL[NUM_FLAGGED:]:
        if name in text:
            head, _, tail = text.partition(name)
            return [*_cut(head), name[0], *_cut(name[1:] + tail)]
    return [text]
