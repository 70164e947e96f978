"""Greedy answers: a batch gives what each row gives alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.evaluate.generate import greedy
from finetune.model.loading import load_base

PROMPTS = [[index * 7 % 250 + 1 for index in range(length)] for length in (1, 2, 3, 9, 20, 33, 40, 70)]


@pytest.fixture(scope="module")
def exact(tiny_base: Path) -> Any:
    """The tiny base in float32: in bfloat16 two likely tokens of a random model are often equally likely."""
    return load_base(tiny_base, quantization=Quantization.NONE, device="cpu").model.float()


def answers(model: Any, *, batch_rows: int, stops: frozenset[int] = frozenset(), new: int = 24) -> list[list[int]]:
    return greedy(model, PROMPTS, stops=stops, max_new_tokens=new, pad_token=256, batch_rows=batch_rows)


def alone(model: Any, prompt: list[int], num_tokens: int) -> list[int]:
    """The plain way: the whole sequence again for each token, no cache and no padding."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(num_tokens):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_a_batch_gives_what_each_row_gives_alone(exact: Any) -> None:
    expected = [alone(exact, prompt, 24) for prompt in PROMPTS]
    assert answers(exact, batch_rows=1) == expected
    assert answers(exact, batch_rows=8) == expected
    assert answers(exact, batch_rows=3) == expected


def test_a_row_ends_before_its_stop_and_the_others_go_on(exact: Any) -> None:
    free = answers(exact, batch_rows=8)
    stops = frozenset({free[3][5], free[6][2]})
    expected = []
    for answer in free:
        end = next((place for place, token in enumerate(answer) if token in stops), len(answer))
        expected.append(answer[:end])
    assert len({len(answer) for answer in expected}) > 1
    assert answers(exact, batch_rows=8, stops=stops) == expected


def test_nothing_is_generated_where_nothing_may_be(exact: Any) -> None:
    assert answers(exact, batch_rows=8, new=0) == [[]] * len(PROMPTS)
