"""Greedy and drawn answers: a batch gives what each row gives alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.evaluate.generate import greedy, sampled
from finetune.evaluate.sampling import Draws, Sampling
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


SEEDS = [7, 7, 8, 9, 10, 11, 12, 13]


def drawn(model: Any, places: list[int], *, batch_rows: int, sampling: Sampling) -> list[list[int]]:
    return sampled(
        model,
        [PROMPTS[place] for place in places],
        sampling=sampling,
        seeds=[SEEDS[place] for place in places],
        stops=frozenset(),
        max_new_tokens=12,
        pad_token=256,
        batch_rows=batch_rows,
    )


def test_drawn_answers_depend_on_a_rows_own_seed_and_not_on_its_place_or_batch(exact: Any) -> None:
    together = drawn(exact, list(range(8)), batch_rows=8, sampling=Sampling())
    backwards = drawn(exact, list(range(8))[::-1], batch_rows=3, sampling=Sampling())
    assert together == backwards[::-1]
    assert drawn(exact, [5], batch_rows=1, sampling=Sampling()) == [together[5]]
    assert together != answers(exact, batch_rows=8, new=12)


def test_a_nucleus_of_one_token_and_a_low_temperature_are_greedy(exact: Any) -> None:
    expected = answers(exact, batch_rows=8, new=12)
    assert drawn(exact, list(range(8)), batch_rows=8, sampling=Sampling(top_p=1e-9)) == expected
    assert drawn(exact, list(range(8)), batch_rows=8, sampling=Sampling(temperature=1e-6)) == expected


def test_tokens_come_as_often_as_the_nucleus_says() -> None:
    shares = torch.tensor([0.1, 0.5, 0.15, 0.25])
    logits = shares.log().repeat(4000, 1)
    found = Draws(Sampling(temperature=1.0, top_p=0.8), range(4000)).choose(logits, range(4000))
    counts = torch.bincount(torch.tensor(found), minlength=4) / 4000
    # 0.5 + 0.25 are below 0.8, so a third may come; the least likely never does
    assert counts[0] == 0
    assert torch.allclose(counts, torch.tensor([0.0, 0.5, 0.15, 0.25]) / 0.9, atol=0.03)
    everything = Draws(Sampling(temperature=2.0, top_p=1.0), range(4000)).choose(logits, range(4000))
    flat = shares.sqrt() / shares.sqrt().sum()
    assert torch.allclose(torch.bincount(torch.tensor(everything), minlength=4) / 4000, flat, atol=0.03)
