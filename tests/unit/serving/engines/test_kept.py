"""Prompts that begin as earlier ones: read from where they part, with the same tokens, within a bound of bytes."""

import pytest
import torch

from serving.engines import kept
from serving.engines.batch import Batch, PromptReader
from serving.engines.kept import KeptPrompts
from serving.engines.slots import AdapterSlots

PIECE = 7
LONG = tuple(range(5, 45))
# each begins as an earlier one; what is known of it where any place can be taken up, and where borders alone can
ASKED = (
    (LONG, 0, 0),
    (LONG, 40, 40),
    ((*LONG, 7, 9, 9, 7), 40, 40),
    ((*LONG[:22], *range(60, 70)), 22, 0),
    ((*LONG[:22], *range(80, 95)), 22, 22),
    (LONG[:22], 21, 22),
    (LONG[:10], 9, 0),
    ((*LONG, 7, 9, 9, 8), 43, 40),
    ((200, 201, 202), 0, 0),
    ((*LONG[:22], *range(80, 95)), 37, 37),
)


class Row:
    slot = None

    def __init__(self, next_token: int) -> None:
        self.next_token = next_token
        self.tokens = [next_token]


@pytest.fixture(autouse=True)
def small_gain(monkeypatch):
    monkeypatch.setattr(kept, "MIN_GAIN_TOKENS", 4)


def read(model, prompts: KeptPrompts | None, token_ids, slot=None):
    reader = PromptReader(model, token_ids, device="cpu", kept=prompts, slot=slot)
    while (logits := reader.read(PIECE)) is None:
        pass
    return reader, logits


def answer(model, prompts: KeptPrompts | None, token_ids, *, num_steps: int = 6):
    """Tokens of a greedy answer, the logits of each (tokens, vocabulary), and how many of the prompt were known."""
    reader, logits = read(model, prompts, token_ids)
    row, seen = Row(int(logits.argmax())), [logits.clone()]
    batch = Batch(model, AdapterSlots(model), device="cpu")
    batch.join(row, reader.cache, num_tokens=len(token_ids))
    for _ in range(num_steps):
        seen.append(batch.step()[0].clone())
        row.next_token = int(seen[-1].argmax())
        row.tokens.append(row.next_token)
    return row.tokens, torch.stack(seen), reader.num_cached


@torch.inference_mode()
def test_a_known_beginning_changes_no_token(family_model):
    prompts = KeptPrompts(max_bytes=1 << 30)
    for token_ids, anywhere, at_borders in ASKED:
        tokens, logits, num_cached = answer(family_model, prompts, token_ids)
        plain, plain_logits, _ = answer(family_model, None, token_ids)
        assert tokens == plain and torch.allclose(logits, plain_logits, atol=1e-5)
        assert num_cached == (at_borders if prompts._has_states else anywhere)


@torch.inference_mode()
def test_any_place_will_do_where_keys_and_values_are_all(family_model):
    prompts = KeptPrompts(max_bytes=1 << 30)
    read(family_model, prompts, LONG)
    has_states = family_model.config.model_type in ("qwen3_5_text", "gemma3_text")
    assert prompts._has_states == has_states
    assert prompts.begin(None, (*LONG[:30], 1)).num_tokens == (0 if has_states else 30)


@torch.inference_mode()
def test_another_slot_knows_nothing(family_model):
    prompts = KeptPrompts(max_bytes=1 << 30)
    read(family_model, prompts, LONG, "one")
    assert [prompts.begin(slot, LONG).num_tokens for slot in (None, "two", "one")] == [0, 0, len(LONG)]
    prompts.forget("two")
    prompts.forget("one")
    assert prompts.num_bytes == 0 and prompts.begin("one", LONG).num_tokens == 0


@torch.inference_mode()
def test_what_is_kept_stays_within_its_bytes_and_the_oldest_goes(family_model):
    one = KeptPrompts(max_bytes=1 << 30)
    read(family_model, one, LONG)
    apart = [tuple(range(start, start + 40)) for start in (60, 110, 160)]
    prompts = KeptPrompts(max_bytes=int(3.2 * one.num_bytes))
    for token_ids in (LONG, *apart[:2]):
        read(family_model, prompts, token_ids)
    assert 2.9 * one.num_bytes < prompts.num_bytes <= 3.2 * one.num_bytes
    prompts.begin(None, LONG)
    read(family_model, prompts, apart[2])
    assert prompts.num_bytes <= 3.2 * one.num_bytes
    known = [prompts.begin(None, token_ids).num_tokens for token_ids in (LONG, *apart)]
    assert known == [40, 0, 40, 40]


@torch.inference_mode()
def test_a_prompt_that_is_larger_than_all_room_drives_nothing_out(family_model):
    one = KeptPrompts(max_bytes=1 << 30)
    read(family_model, one, LONG[:20])
    prompts = KeptPrompts(max_bytes=one.num_bytes)
    read(family_model, prompts, LONG[:20])
    read(family_model, prompts, tuple(range(60, 140)))
    assert prompts.num_bytes == one.num_bytes and prompts.begin(None, LONG[:20]).num_tokens == 20
    nothing = KeptPrompts(max_bytes=0)
    read(family_model, nothing, LONG)
    assert nothing.num_bytes == 0 and nothing.begin(None, LONG).num_tokens == 0


@torch.inference_mode()
def test_a_chat_that_grows_leaves_its_older_borders_first(family_model):
    one = KeptPrompts(max_bytes=1 << 30)
    grown = [tuple(range(5, 5 + length)) for length in (40, 80, 120, 160)]
    for token_ids in grown:
        read(family_model, one, token_ids)
    prompts = KeptPrompts(max_bytes=one.num_bytes - 1)
    for token_ids in grown:
        read(family_model, prompts, token_ids)
    assert prompts.num_bytes < one.num_bytes
    assert prompts.begin(None, (*grown[-1], 7)).num_tokens == 160


@torch.inference_mode()
def test_what_is_common_is_held_once_and_what_remains_holds_no_more(family_model):
    """However often stretches are cut and taken off, each tensor holds its own memory alone."""
    prompts = KeptPrompts(max_bytes=1 << 30)
    for end in range(60, 90):
        read(family_model, prompts, (*LONG[: end - 50], end), slot="one" if end < 80 else "two")
    assert held_by(prompts) == prompts.num_bytes
    lengths = sum(len(stretch.token_ids) for stretch in kept._with_those_below(prompts._roots.values()))
    assert lengths == 29 + 20 + 39 + 10
    for _ in range(10):
        assert prompts.drop_oldest() and held_by(prompts) == prompts.num_bytes
    prompts.forget("two")
    assert held_by(prompts) == prompts.num_bytes > 0
    while prompts.drop_oldest():
        pass
    assert held_by(prompts) == prompts.num_bytes == 0


def held_by(prompts: KeptPrompts) -> int:
    tensors = [
        tensor
        for stretch in kept._with_those_below(prompts._roots.values())
        for tensor in (
            *(part for pair in stretch.columns.pairs for part in pair),
            *((*stretch.border.states, stretch.border.logits) if stretch.border else ()),
        )
    ]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
