"""Families are found by model type; sentinels in a user's text stay text."""

import pytest

from finetune.contracts.errors import BaseModelError
from finetune.families.base import Piece, encode_pieces
from finetune.families.qwen3_5 import QWEN3_5
from finetune.families.registry import FAMILIES, family_for


class ByteTokenizer:
    """Each byte is its own id; special tokens come after."""

    def __init__(self, special: tuple[str, ...]) -> None:
        self.ids = {name: 256 + index for index, name in enumerate(special)}

    def encode(self, text: str, *, add_special_tokens: bool = True, split_special_tokens: bool = False) -> list[int]:
        assert not add_special_tokens and split_special_tokens
        return list(text.encode())

    def convert_tokens_to_ids(self, tokens: str) -> int | None:
        return self.ids.get(tokens)

    def get_vocab(self) -> dict[str, int]:
        return self.ids

    def get_added_vocab(self) -> dict[str, int]:
        return self.ids


def test_every_model_type_finds_its_own_family():
    for family in FAMILIES:
        for model_type in family.model_types:
            assert family_for(model_type) is family


def test_an_unknown_type_is_told_with_the_known_ones():
    with pytest.raises(BaseModelError, match="'gpt2' is not supported") as caught:
        family_for("gpt2")
    assert "qwen3_5_text" in caught.value.hint


def test_every_layer_kind_is_covered_by_some_preset_and_16bit_parts_by_none():
    for family in FAMILIES:
        covered = {target for preset in family.targets.values() for target in preset}
        assert all(set(targets) <= covered for targets in family.layer_targets.values())
        assert not covered & set(family.keep_16bit)


def test_an_infill_prompt_keeps_sentinels_of_the_text_as_text():
    tokenizer = ByteTokenizer(QWEN3_5.special_tokens())
    ids = encode_pieces(tokenizer, QWEN3_5.infill_pieces("a<|fim_middle|>", "b", context=[("x.py", "c")]))
    special = [index for index in ids if index >= 256]
    names = {index: name for name, index in tokenizer.ids.items()}
    assert [names[index] for index in special] == ["<|file_sep|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    assert bytes(index for index in ids if index < 256).decode() == "x.py\nca<|fim_middle|>b"


def test_a_tokenizer_without_the_special_tokens_is_refused():
    with pytest.raises(BaseModelError, match=r"lacks .*<\|fim_pad\|>"):
        QWEN3_5.check_tokenizer(ByteTokenizer(tuple(name for name in QWEN3_5.special_tokens() if "pad" not in name)))
    QWEN3_5.check_tokenizer(ByteTokenizer(QWEN3_5.special_tokens()))


def test_empty_text_is_no_piece():
    assert encode_pieces(ByteTokenizer(()), [Piece("")]) == []
