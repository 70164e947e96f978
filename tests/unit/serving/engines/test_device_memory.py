"""A row is admitted when the card has memory for it, for which kept prompts make way; on the CPU always."""

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.model.loading import load_base
from serving.engines import device_memory
from serving.engines.answer import AnswerWriter
from serving.engines.base import Sampling
from serving.engines.batch import PromptReader
from serving.engines.cache import RowSize, row_size
from serving.engines.scheduler import QueuedRequest, Scheduler
from serving.engines.slots import AdapterSlots
from serving.settings import ServerSettings

PROMPT = list(range(65, 85))


class Answer:
    cancelled = False

    def __init__(self) -> None:
        self.items: list = []

    def send(self, item) -> None:
        self.items.append(item)


@pytest.fixture(scope="module")
def model(tiny_base):
    return load_base(tiny_base, quantization=Quantization.NONE, device="cpu").model.float()


@pytest.fixture
def work(model):
    settings = ServerSettings(max_requests=4)
    return Scheduler(model, AdapterSlots(model), device="cpu", num_tokens=256, settings=settings)


def queued(num_new: int) -> QueuedRequest:
    writer = AnswerWriter(
        Sampling(temperature=0.0),
        stop_ids=frozenset(),
        max_new_tokens=num_new,
        decode=lambda ids: "x" * len(ids),
        device="cpu",
    )
    return QueuedRequest(Answer(), writer, PROMPT, slot=None, max_tokens=len(PROMPT) + num_new)


@torch.inference_mode()
def test_the_size_of_a_row_is_what_its_cache_takes(family_model):
    reader = PromptReader(family_model, [5, 6, 7, 8, 9], device="cpu")
    reader.read(5)
    held = sum(
        part.nbytes
        for layer in reader.cache.layers
        for part in (
            getattr(layer, "keys", None),
            getattr(layer, "values", None),
            *getattr(layer, "conv_states", {}).values(),
            *getattr(layer, "recurrent_states", {}).values(),
        )
        if part is not None
    )
    assert row_size(reader.cache).bytes_of(1, 5) == held
    assert row_size(reader.cache).bytes_of(3, 10) == 3 * (
        10 * row_size(reader.cache).token + row_size(reader.cache).states
    )


def test_a_row_that_the_card_cannot_hold_waits_for_those_that_run(work, monkeypatch):
    """No prompt is kept here, so only rows that end can make room."""
    work._kept.keep = lambda *args, **options: None
    first, second = queued(12), queued(3)
    work.submit(first)
    work.advance()
    monkeypatch.setattr(device_memory, "free_bytes", lambda device: device_memory.RESERVE_BYTES)
    work.submit(second)
    while len(first.answer.items) < 12:
        assert not second.answer.items
        work.advance()
    while work.busy:
        work.advance()
    assert len(second.answer.items) == 3


@pytest.mark.parametrize("enough", [True, False])
def test_kept_prompts_make_way_for_a_row(work, monkeypatch, enough):
    """What is kept lowers what is free; without it there is just enough, or enough in any case."""
    first, second = queued(50), queued(3)
    work.submit(first)
    work.advance()
    size = work._row_size
    needed = size.bytes_of(2, 70) + size.bytes_of(1, 70) - size.bytes_of(1, work._batch.num_tokens)
    empty = device_memory.RESERVE_BYTES + needed + (work._kept.num_bytes if enough else 0)
    monkeypatch.setattr(device_memory, "free_bytes", lambda device: empty - work._kept.num_bytes)
    work.submit(second)
    work.advance()
    assert second.answer.items and not first.answer.items[-1].finish_reason
    assert second.answer.num_cached_tokens == (len(PROMPT) if enough else 0)


def test_what_is_kept_leaves_rows_what_they_may_grow_into(work, monkeypatch):
    free = device_memory.RESERVE_BYTES
    monkeypatch.setattr(device_memory, "free_bytes", lambda device: free)
    request = queued(3)
    work.submit(request)
    work.advance()
    assert work._kept.num_bytes == 0 and request.answer.items


def test_how_much_is_kept_follows_the_card(monkeypatch):
    assert device_memory.cache_bytes(None, device="cpu") == 1 << 30
    monkeypatch.setattr(device_memory, "free_bytes", lambda device: 16e9)
    assert device_memory.cache_bytes(None, device="cuda") == int(4e9)
    assert [device_memory.cache_bytes(wanted, device="cuda") for wanted in (0, 7)] == [0, 7]


def test_the_newest_row_counts_twice_until_it_has_joined(monkeypatch):
    size = RowSize(token=10, states=100)
    monkeypatch.setattr(device_memory, "RESERVE_BYTES", 1000)
    free = 4 * (50 * 10 + 100) + 1000
    for given, lacks in ((free, False), (free - 1, True)):
        monkeypatch.setattr(device_memory, "free_bytes", lambda device, given=given: given)
        assert device_memory.lacks_room(size, device="cuda", num_rows=4, num_tokens=50, held=600) is lacks


def test_the_cpu_always_has_room():
    assert not device_memory.lacks_room(
        RowSize(token=1 << 40, states=0), device="cpu", num_rows=9, num_tokens=9, held=0
    )
