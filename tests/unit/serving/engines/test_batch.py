"""Rows that join and leave between steps give what they give alone, in every kind of cache that a family has."""

import pytest
import torch

from serving.engines.batch import Batch, PromptReader
from serving.engines.slots import AdapterSlots, LinearFactors

PROMPTS = ([5, 6, 7], [9] * 30 + [3, 4], [11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22])


class Row:
    slot = None

    def __init__(self, next_token: int) -> None:
        self.next_token = next_token
        self.tokens = [next_token]


@pytest.fixture(scope="module")
def model(family_model):
    return family_model


def read(model, prompt, *, piece: int = 7):
    reader = PromptReader(model, prompt, device="cpu")
    while (logits := reader.read(piece)) is None:
        pass
    return Row(int(logits.argmax())), reader.cache


def step(batch: Batch) -> torch.Tensor:
    logits = batch.step()
    for row, line in zip(batch.rows, logits, strict=True):
        row.next_token = int(line.argmax())
        row.tokens.append(row.next_token)
    return logits


@torch.inference_mode()
def alone(model, prompt, num_steps: int) -> list[int]:
    """As the library generates, without a cache."""
    ids = list(prompt)
    for _ in range(num_steps + 1):
        ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@torch.inference_mode()
def test_rows_that_come_and_go_give_what_they_give_alone(model):
    batch = Batch(model, AdapterSlots(model), device="cpu")
    rows = []
    for prompt in PROMPTS:
        row, cache = read(model, prompt)
        batch.join(row, cache, num_tokens=len(prompt))
        rows.append(row)
        for _ in range(3):
            step(batch)
    # the longest leaves, so that the padding of the others goes; then one more comes
    batch.keep([0, 2])
    for _ in range(2):
        step(batch)
    late, cache = read(model, PROMPTS[1])
    batch.join(late, cache, num_tokens=len(PROMPTS[1]))
    for _ in range(4):
        step(batch)
    for row, prompt in zip([*rows, late], [*PROMPTS, PROMPTS[1]], strict=True):
        assert row.tokens == alone(model, prompt, len(row.tokens) - 1)
    assert [len(row.tokens) for row in rows] == [16, 7, 10]


@torch.inference_mode()
def test_an_empty_batch_begins_anew(model):
    batch = Batch(model, AdapterSlots(model), device="cpu")
    for prompt in PROMPTS[:2]:
        row, cache = read(model, prompt)
        batch.join(row, cache, num_tokens=len(prompt))
        step(batch)
        batch.keep([])
        assert not batch.rows and row.tokens == alone(model, prompt, 1)


@torch.inference_mode()
def test_each_map_that_a_family_has_knows_whose_rows_it_sees(model):
    """Experts, shared experts and latent attention hand rows to their maps in shapes of their own."""
    slots = AdapterSlots(model)
    drawn = torch.Generator().manual_seed(0)
    names = slots.names([name.rpartition(".")[2] for name, _ in model.named_modules()])
    for slot, rank in (("one", 3), ("two", 5)):
        sizes = {name: slots.size_of(name) for name in names if name != "lm_head"}
        slots.load(
            slot,
            {
                name: LinearFactors(*(torch.randn(rank, size, generator=drawn) * 0.1 for size in pair))
                for name, pair in sizes.items()
            },
        )
    batch = Batch(model, slots, device="cpu")
    rows = []
    for prompt, slot in zip(PROMPTS, ("one", None, "two"), strict=True):
        slots.select([slot])
        row, cache = read(model, prompt)
        row.slot = slot
        batch.join(row, cache, num_tokens=len(prompt))
        rows.append(row)
    for _ in range(3):
        step(batch)
    for row, prompt in zip(rows, PROMPTS, strict=True):
        slots.select([row.slot])
        assert row.tokens == alone(model, prompt, 3)
    for slot in ("one", "two"):
        slots.free(slot)
