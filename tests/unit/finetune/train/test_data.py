"""Rows of a run: only wanted tasks, weights from the recipe, a small fixed held-out sample, honest figures."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.dataset import Example, Role, Split, Task
from finetune.families.qwen3_5 import QWEN3_5
from finetune.recipe.resolve import ResolvedRecipe
from finetune.render.dataset import open_dataset
from finetune.render.rows import TokenRow
from finetune.train.data import heldout_loss, heldout_rows, order_rows, prepare_rows, row_lengths

Resolved = Callable[..., ResolvedRecipe]


def test_a_task_of_weight_0_is_left_out(resolved_tiny: Resolved, tiny_dataset: Path, tiny_tokenizer: Any) -> None:
    resolved = resolved_tiny("data.tasks.docstring=0", "data.tasks.infill=3", "train.max_steps=null")
    rows = prepare_rows(open_dataset(tiny_dataset), tiny_tokenizer, QWEN3_5, resolved=resolved)
    assert rows.counts() == {"infill": 8, "pretrain": 8}
    assert len(order_rows(rows.train, resolved, packed=False).indices) == 3 * 8 + 8
    assert {row.task for row in rows.heldout} == {Task.INFILL, Task.PRETRAIN}


def test_step_tokens_leave_padding_out(resolved_tiny: Resolved, tiny_dataset: Path, tiny_tokenizer: Any) -> None:
    resolved = resolved_tiny()
    rows = prepare_rows(open_dataset(tiny_dataset), tiny_tokenizer, QWEN3_5, resolved=resolved)
    for packed in (False, True):
        order = order_rows(rows.train, resolved, packed=packed)
        tokens = order.step_tokens(row_lengths(rows.train))
        assert len(tokens) == order.num_steps == 4
        assert sum(tokens) == sum(len(rows.train[index].input_ids) for index in order.indices)


def test_the_held_out_sample_is_small_and_fixed(
    resolved_tiny: Resolved, tiny_tokenizer: Any, tmp_path: Path, make_dataset: Any, make_example: Any
) -> None:
    examples = [
        make_example(Task.PRETRAIN, [(Role.TARGET, f"value_{index} = {index}\n" * 20)], split=Split.HELDOUT)
        for index in range(200)
    ]
    data = resolved_tiny().data

    def drawn(name: str, rows: list[Example], num_tokens: int) -> tuple[TokenRow, ...]:
        dataset = open_dataset(make_dataset(tmp_path / name, rows))
        return heldout_rows(dataset, tiny_tokenizer, QWEN3_5, data=data, num_tokens=num_tokens)

    first = drawn("a", examples, 8192)
    assert first == drawn("b", examples[::-1], 8192)
    assert 8192 <= sum(len(row.input_ids) for row in first) < 8192 + data.max_tokens
    few = drawn("c", examples, 500)
    assert first[: len(few)] == few and 500 <= sum(len(row.input_ids) for row in few) < 500 + data.max_tokens


def test_figures_are_per_token_and_per_byte() -> None:
    rows = [
        TokenRow("a", Task.INFILL, (1, 2, 3), (-100, 2, 3), num_loss_tokens=2, loss_bytes=8),
        TokenRow("b", Task.INFILL, (1, 2, 3), (-100, -100, 3), num_loss_tokens=1, loss_bytes=4),
    ]
    found = heldout_loss(rows, [4.0, 2.0])
    assert found.loss == pytest.approx(2.0)
    assert found.bits_per_byte == pytest.approx(6.0 / math.log(2) / 12)
