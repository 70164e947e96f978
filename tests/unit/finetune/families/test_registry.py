"""Families are found by model type, each with one tiny configuration; sentinels in a user's text stay text."""

import json
from pathlib import Path

import pytest

from finetune.contracts.errors import BaseModelError
from finetune.families.base import Piece, encode_pieces
from finetune.families.qwen3_5 import QWEN3_5
from finetune.families.registry import FAMILIES, family_for
from finetune.families.tokens import Unsupported

CONFIGS = Path(__file__).parents[3] / "assets" / "families"


class ByteTokenizer:
    """Each byte is its own id; special tokens come after."""

    chat_template = None

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

    def apply_chat_template(self, conversation: object, *, tokenize: bool, **kwargs: object) -> object:
        raise AssertionError("there is none")


def test_every_model_type_finds_its_own_family():
    for family in FAMILIES:
        for model_type in family.model_types:
            assert family_for(model_type) is family
    named = [model_type for family in FAMILIES for model_type in (*family.model_types, *family.refused)]
    assert len(named) == len(set(named))


def test_each_family_has_a_tiny_configuration_of_one_of_its_types():
    for family in FAMILIES:
        config = json.loads((CONFIGS / f"{family.name}.json").read_text())
        assert config["model_type"] in family.model_types
    assert {path.stem for path in CONFIGS.iterdir()} == {family.name for family in FAMILIES}


def test_an_unknown_type_is_told_with_the_known_ones():
    with pytest.raises(BaseModelError, match="'gpt2' is not supported") as caught:
        family_for("gpt2")
    assert "qwen3_5_text" in caught.value.hint


def test_a_type_that_is_left_out_on_purpose_is_told_with_the_reason():
    with pytest.raises(BaseModelError, match="'gemma2' is not supported: it caps its logits"):
        family_for("gemma2")


def test_every_layer_kind_is_covered_by_some_preset_and_16bit_parts_by_none():
    for family in FAMILIES:
        covered = {target for preset in family.targets.values() for target in preset}
        left_out = {kind for kind, targets in family.layer_targets.items() if not set(targets) <= covered}
        assert left_out == set(family.untrained)
        assert not covered & set(family.keep_16bit)


def test_a_family_has_experts_if_it_says_how_they_are_served():
    for family in FAMILIES:
        assert bool(family.experts) == (family.mixture is not None)
        assert family.experts == family.layer_targets.get("experts", ())


def test_what_nf4_holds_is_told_by_a_parameters_full_name():
    moe = family_for("qwen3_5_moe")
    assert moe.is_quantised("model.layers.0.mlp.experts.down_proj")
    assert moe.is_quantised("model.layers.0.mlp.shared_expert.down_proj.weight")
    assert not moe.is_quantised("model.layers.0.mlp.shared_expert_gate.weight")
    assert not moe.is_quantised("model.layers.0.mlp.gate.weight")
    assert not family_for("qwen2").is_quantised("model.layers.0.self_attn.q_proj.bias")


def test_a_preset_leaves_out_what_a_configuration_does_not_have():
    deepseek = family_for("deepseek_v3")
    assert "q_proj" not in deepseek.targets_of("attention", {"q_lora_rank": 1536})
    assert set(deepseek.targets_of("attention", {"q_lora_rank": None})) & {"q_proj", "q_a_proj"} == {"q_proj"}


def test_an_infill_prompt_keeps_sentinels_of_the_text_as_text():
    tokenizer = ByteTokenizer(QWEN3_5.tokens.names())
    ids = encode_pieces(tokenizer, QWEN3_5.infill_pieces("a<|fim_middle|>", "b", context=[("x.py", "c")]))
    special = [index for index in ids if index >= 256]
    names = {index: name for name, index in tokenizer.ids.items()}
    assert [names[index] for index in special] == ["<|file_sep|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    assert bytes(index for index in ids if index < 256).decode() == "x.py\nca<|fim_middle|>b"


def test_a_family_with_a_start_token_puts_it_before_an_infill_prompt():
    pieces = family_for("deepseek_v3").infill_pieces("a", "b")
    assert [piece.text for piece in pieces[:2]] == ["<｜begin▁of▁sentence｜>", "<｜fim▁begin｜>"]


def test_a_base_that_cannot_fill_in_says_why():
    with pytest.raises(BaseModelError, match="cannot fill in: Llama 3 has no infill tokens"):
        family_for("llama").infill_pieces("a", "b")


def test_a_form_has_sentinels_unless_it_says_why_not():
    for family in FAMILIES:
        for form in (family.tokens, *family.other_tokens):
            assert (form.sentinels is None) == isinstance(form.infill, Unsupported)
            assert (form.sentinels is None) == (form.infill_stops == ())


def test_empty_text_is_no_piece():
    assert encode_pieces(ByteTokenizer(()), [Piece("")]) == []
