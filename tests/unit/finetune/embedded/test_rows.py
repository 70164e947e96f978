"""Rows: shares by kind, the middle is what was hidden, names of special tokens in source stay text."""

import random

import numpy as np
import pytest

from finetune.embedded.corpus import Document
from finetune.embedded.rows import RowMaker, choose_span, functions_of, gap_weights, tails, words
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


def test_half_of_the_text_is_in_infill_rows_and_the_other_kinds_are_there(encoder):
    long = "".join(SOURCE.replace("area", f"area_{number}") for number in range(40))
    many = [Document("shapes", f"shapes/{number}.py", long) for number in range(20)]
    ids = RowMaker(many, encoder, seed=0).packed(400, 257).ravel()
    assert ids.dtype == np.uint16
    sequences = np.split(ids, np.flatnonzero(ids == encoder.special["<|endoftext|>"]) + 1)
    infill = sum(len(row) for row in sequences if encoder.special["<|fim_prefix|>"] in row)
    chat = sum(len(row) for row in sequences if encoder.special["<|im_start|>"] in row)
    assert infill / (len(ids) - chat) == pytest.approx(0.5, abs=0.1)
    assert {encoder.special[name] for name in ("<|repo_name|>", "<|im_start|>", "</think>")} <= set(ids.tolist())


def test_a_gap_and_its_end_count_more_than_the_rest():
    rows = np.array([[9, 1, 5, 2, 6, 3, 7, 8, 9, 4, 4], [9, 4, 4, 4, 3, 5, 9, 4, 3, 6, 9]], np.uint16)
    weights = gap_weights(rows, middle=3, end=9)
    assert weights.tolist() == [[1, 1, 1, 1, 1, 4, 4, 4, 1, 1], [1, 1, 1, 1, 4, 4, 1, 1, 4, 4]]


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
    assert pairs[1][1].splitlines()[-1] == "    return len(self.sides)"


def test_the_rest_of_a_line_begins_where_a_token_does():
    line = "    return self.sides[index] + offset"
    starts = tails(line, 4, len(line))
    assert [line[start:] for start in starts] == [
        "return self.sides[index] + offset",
        " self.sides[index] + offset",
        ".sides[index] + offset",
        "[index] + offset",
        " offset",
    ]


def test_a_word_comes_with_the_character_that_joins_it():
    line = "    return self.sides[index] + 2"
    assert [line[start:end] for start, end in words(line, 4, len(line))] == ["return", " self", ".sides", "[index"]
