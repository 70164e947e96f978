"""Rows: shares by kind, the middle is what was hidden, names of special tokens in source stay text."""

import random

import numpy as np
import pytest

from finetune.embedded.corpus import Document
from finetune.embedded.rows import RowMaker, choose_span, functions_of
from finetune.embedded.tokenizer import SPECIAL, Encoder, train_tokenizer

SOURCE = '''def area(width, height):
    """Return the area."""
    return width * height


class Shape:
    """A shape with sides."""

    def __init__(self, sides):
        self.sides = sides

    def num_sides(self):
        """Count the sides."""
        return len(self.sides)
'''


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([SOURCE] * 3, folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tokenizer_folder):
    return Encoder(tokenizer_folder)


def documents():
    return [Document("shapes", f"shapes/{number}.py", SOURCE.replace("area", f"area_{number}")) for number in range(60)]


def test_special_tokens_have_one_id_each_and_text_never_gives_one(encoder):
    assert len(set(encoder.special.values())) == len(SPECIAL)
    ids = encoder.encode("x = '<|fim_prefix|>' + '<|endoftext|>' + '<think>' + '<think></think>'")
    assert not set(encoder.special.values()) & set(ids)


def test_every_text_comes_back_byte_for_byte(tokenizer_folder, encoder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    text = "naïve = '日本'\n\tif x:\r\n        return  # <|fim_middle|> \U0001f600\n"
    assert tokenizer.decode(encoder.encode(text)) == text


def test_the_chat_template_closes_thinking_when_told(tokenizer_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    messages = [{"role": "user", "content": "hi"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_half_of_the_sequences_are_infill_and_the_other_kinds_are_there(encoder):
    rows = RowMaker(documents(), encoder, seed=0).packed(400, 257)
    assert rows.shape == (400, 257) and rows.dtype == np.uint16
    ids = rows.ravel()
    count = {name: int((ids == number).sum()) for name, number in encoder.special.items()}
    assert count["<|fim_prefix|>"] / count["<|endoftext|>"] == pytest.approx(0.5, abs=0.1)
    assert count["<|repo_name|>"] and count["<|im_start|>"] and count["</think>"]


def test_the_same_seed_gives_the_same_rows_and_more_rows_begin_alike(encoder):
    first = RowMaker(documents(), encoder, seed=0).packed(20, 65)
    assert (first == RowMaker(documents(), encoder, seed=0).packed(20, 65)).all()
    assert (first == RowMaker(documents(), encoder, seed=0).packed(40, 65)[:20]).all()
    assert (first != RowMaker(documents(), encoder, seed=1).packed(20, 65)).any()


def test_spans_lie_inside_the_text_and_start_after_the_indentation():
    draw = random.Random(0)
    spans = [choose_span(SOURCE, draw) for _ in range(500)]
    assert all(0 <= start < end <= len(SOURCE) for start, end in spans)
    lines = {SOURCE[start:end] for start, end in spans}
    assert "self.sides = sides" in lines


def test_chat_rows_come_from_functions_with_docstrings_only():
    pairs = functions_of(SOURCE)
    assert [answer.splitlines()[0] for _, answer in pairs] == ["def area(width, height):", "def num_sides(self):"]
    assert "Return the area." in pairs[0][0] and functions_of("def broken(:") == []
