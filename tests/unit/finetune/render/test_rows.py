"""Rows: last token, mask borders, sentinels in user text, and that nothing is lost in silence."""

from collections.abc import Callable
from typing import Any

import pytest

from finetune.contracts.dataset import Example, Role, Task
from finetune.families.qwen3_5 import QWEN3_5
from finetune.render.rows import MASKED, Renderer, TokenRow

Make = Callable[..., Example]


@pytest.fixture
def renderer(tiny_tokenizer: Any) -> Renderer:
    return Renderer(tiny_tokenizer, QWEN3_5, max_tokens=128)


def infill(make: Make, prefix: str, suffix: str, target: str) -> Example:
    return make(Task.INFILL, [(Role.PREFIX, prefix), (Role.SUFFIX, suffix), (Role.TARGET, target)])


def learned_text(renderer: Renderer, row: TokenRow) -> str:
    ids = [token for token, label in zip(row.input_ids, row.labels, strict=True) if label != MASKED]
    return str(renderer.tokenizer.decode(ids))


def whole_text(renderer: Renderer, row: TokenRow) -> str:
    return str(renderer.tokenizer.decode(list(row.input_ids)))


def only(renderer: Renderer, example: Example) -> TokenRow:
    (row,) = renderer.rows(example)
    assert len(row.input_ids) == len(row.labels)
    assert row.num_loss_tokens == sum(label != MASKED for label in row.labels)
    return row


def test_infill_row_exactly(renderer: Renderer, make_example: Make) -> None:
    row = only(renderer, infill(make_example, "a = 1\n", "\nc = 3\n", "b = 2"))
    assert whole_text(renderer, row) == ("<|fim_prefix|>a = 1\n<|fim_suffix|>\nc = 3\n<|fim_middle|>b = 2<|endoftext|>")
    assert learned_text(renderer, row) == "b = 2<|endoftext|>"
    assert row.loss_bytes == 5
    assert renderer.reasons() == ()


def test_infill_context_uses_file_separators(renderer: Renderer, make_example: Make) -> None:
    roles = [(Role.CONTEXT, "X = 1"), (Role.PREFIX, "a"), (Role.SUFFIX, "c"), (Role.TARGET, "b")]
    row = only(renderer, make_example(Task.INFILL, roles))
    assert whole_text(renderer, row).startswith("<|file_sep|>shop/cart.py\nX = 1<|fim_prefix|>a<|fim_suffix|>c")


def test_pretrain_row_exactly(renderer: Renderer, make_example: Make) -> None:
    row = only(renderer, make_example(Task.PRETRAIN, [(Role.TARGET, "x = 1\n")]))
    assert whole_text(renderer, row) == "x = 1\n<|endoftext|>"
    assert learned_text(renderer, row) == " = 1\n<|endoftext|>"
    assert row.loss_bytes == 5


@pytest.mark.parametrize("task", [Task.DOCSTRING, Task.COMMIT_EDIT])
def test_chat_row_masks_the_prompt_with_its_empty_think_block(
    renderer: Renderer, make_example: Make, task: Task
) -> None:
    row = only(renderer, make_example(task, [(Role.INSTRUCTION, "Do it."), (Role.ANSWER, "done()")]))
    assert whole_text(renderer, row) == (
        "<|im_start|>user\nDo it.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\ndone()<|im_end|>"
    )
    assert learned_text(renderer, row) == "done()<|im_end|>"
    assert row.loss_bytes == 6


def test_chat_prompt_equals_the_whole_template(renderer: Renderer, make_example: Make, tiny_tokenizer: Any) -> None:
    row = only(renderer, make_example(Task.DOCSTRING, [(Role.INSTRUCTION, "  Do it.\n"), (Role.ANSWER, "done()")]))
    text = tiny_tokenizer.apply_chat_template(
        [{"role": "user", "content": "  Do it.\n"}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    prompt = tiny_tokenizer.encode(text, add_special_tokens=False)
    assert list(row.input_ids[: len(prompt)]) == prompt


@pytest.mark.parametrize("sentinel", [*QWEN3_5.tokens.names(), "<think>", "</think>", "<|fim_pad|>"])
def test_sentinels_in_user_text_never_become_special(renderer: Renderer, make_example: Make, sentinel: str) -> None:
    code = f'S = "{sentinel}"'
    (token,) = renderer.tokenizer.encode(sentinel, add_special_tokens=False)
    rows = [
        only(renderer, infill(make_example, code, code, code)),
        only(renderer, make_example(Task.PRETRAIN, [(Role.TARGET, code)])),
        only(renderer, make_example(Task.DOCSTRING, [(Role.INSTRUCTION, code), (Role.ANSWER, code)])),
    ]
    harmless = [
        only(renderer, infill(make_example, "S", "S", "S")),
        only(renderer, make_example(Task.PRETRAIN, [(Role.TARGET, "S")])),
        only(renderer, make_example(Task.DOCSTRING, [(Role.INSTRUCTION, "S"), (Role.ANSWER, "S")])),
    ]
    for row, plain in zip(rows, harmless, strict=True):
        assert row.input_ids.count(token) == plain.input_ids.count(token)
        assert code in whole_text(renderer, row)


def test_cropped_infill_keeps_the_target_and_what_lies_near_the_gap(renderer: Renderer, make_example: Make) -> None:
    row = only(renderer, infill(make_example, "p" * 300 + "P", "S" + "s" * 300, "target"))
    assert len(row.input_ids) == renderer.max_tokens
    text = whole_text(renderer, row)
    assert "pP<|fim_suffix|>Ss" in text
    assert text.endswith("<|fim_middle|>target<|endoftext|>")
    assert text.count("s") == 29  # a quarter of 118, less the S
    assert row.truncated
    assert [reason.count for reason in renderer.reasons()] == [1]


def test_a_short_suffix_leaves_its_room_to_the_prefix(renderer: Renderer, make_example: Make) -> None:
    row = only(renderer, infill(make_example, "p" * 300, "s", "target"))
    assert whole_text(renderer, row).count("p") >= 117


def test_context_goes_before_the_prefix(renderer: Renderer, make_example: Make) -> None:
    roles = [(Role.CONTEXT, "F" * 90), (Role.CONTEXT, "N" * 20), (Role.PREFIX, "a"), (Role.SUFFIX, "c")]
    row = only(renderer, make_example(Task.INFILL, [*roles, (Role.TARGET, "b")]))
    text = whole_text(renderer, row)
    assert "F" not in text
    assert "N" * 20 in text
    assert renderer.reasons()[0].reason == "infill row kept, files of its context left out"


def test_a_target_that_cannot_fit_is_dropped_and_counted(renderer: Renderer, make_example: Make) -> None:
    assert renderer.rows(infill(make_example, "p", "s", "t" * 126)) == []
    assert renderer.row(infill(make_example, "p", "s", "t" * 126)) is None
    (reason,) = renderer.reasons()
    assert (reason.stage, reason.count) == ("render", 2)
    assert "target alone exceeds max_tokens" in reason.reason


def test_a_long_chat_row_is_dropped_and_counted(renderer: Renderer, make_example: Make) -> None:
    assert renderer.rows(make_example(Task.DOCSTRING, [(Role.INSTRUCTION, "x" * 200), (Role.ANSWER, "y")])) == []
    assert renderer.reasons()[0].reason == "docstring row dropped: longer than max_tokens"


def test_a_long_document_is_split_and_every_token_is_learned_once(renderer: Renderer, make_example: Make) -> None:
    text = "".join(chr(ord("a") + index % 26) for index in range(300))
    rows = renderer.rows(make_example(Task.PRETRAIN, [(Role.TARGET, text)]))
    assert [len(row.input_ids) for row in rows] == [128, 128, 47]
    assert "".join(learned_text(renderer, row) for row in rows) == text[1:] + "<|endoftext|>"
    end = renderer.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert [row.input_ids[-1] == end for row in rows] == [False, False, True]
    assert sum(row.loss_bytes for row in rows) == 299
    assert all(row.truncated for row in rows)


@pytest.mark.parametrize("length", [126, 127, 128, 254, 255])
def test_no_row_is_left_without_learned_tokens(renderer: Renderer, make_example: Make, length: int) -> None:
    rows = renderer.rows(make_example(Task.PRETRAIN, [(Role.TARGET, "z" * length)]))
    assert all(row.num_loss_tokens for row in rows)
    assert sum(row.num_loss_tokens for row in rows) == length


def test_empty_text_is_dropped_and_counted(renderer: Renderer, make_example: Make) -> None:
    assert renderer.rows(make_example(Task.PRETRAIN, [(Role.TARGET, "")])) == []
    assert "no text" in renderer.reasons()[0].reason


@pytest.mark.parametrize("text", ["x = 'é'", "日本 = '語'\n", "\ttabs\r\n", "emoji = '🙂'", "  lead", "a\u0301"])
def test_text_comes_back(renderer: Renderer, make_example: Make, text: str) -> None:
    row = only(renderer, make_example(Task.DOCSTRING, [(Role.INSTRUCTION, "i"), (Role.ANSWER, text)]))
    assert learned_text(renderer, row) == text + "<|im_end|>"
    assert row.loss_bytes == len(text.encode())
    assert renderer.reasons() == ()


def test_prompt_leaves_room_for_the_answer(renderer: Renderer, make_example: Make) -> None:
    example = infill(make_example, "p" * 300, "s", "t")
    prompt = renderer.prompt(example, reserve_tokens=40)
    assert prompt is not None
    assert len(prompt) == renderer.max_tokens - 40
    assert renderer.prompt(example, reserve_tokens=renderer.max_tokens) is None
