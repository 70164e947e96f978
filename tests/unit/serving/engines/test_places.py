"""Each place in the queue is given back once, whatever goes wrong and whoever leaves; adapters go after their rows."""

import asyncio

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.model.loading import load_base
from serving.engines import scheduler
from serving.engines.answer import AnswerWriter
from serving.engines.base import Sampling
from serving.engines.scheduler import QueuedRequest, Scheduler
from serving.engines.slots import AdapterSlots, LinearFactors
from serving.errors import BusyError, EngineError
from serving.settings import ServerSettings


class Answer:
    """Takes what is sent; looks are what the scheduler sees of cancelled, the last of them from then on."""

    def __init__(self) -> None:
        self.items: list = []
        self.looks = [False]

    @property
    def cancelled(self) -> bool:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def send(self, item) -> None:
        self.items.append(item)

    @property
    def error(self) -> str:
        return str(self.items[-1])


@pytest.fixture(scope="module")
def model(tiny_base):
    base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    return base.model.float()


@pytest.fixture
def slots(model):
    one = AdapterSlots(model)
    yield one
    for slot in list(one._ranks):
        one.free(slot)


@pytest.fixture
def work(model, slots):
    return Scheduler(model, slots, device="cpu", num_tokens=256, settings=ServerSettings(max_requests=2))


def queued(num_new: int = 50, slot: str | None = None) -> QueuedRequest:
    sampling = Sampling(temperature=0.0)
    writer = AnswerWriter(
        sampling, stop_ids=frozenset(), max_new_tokens=num_new, decode=lambda ids: "x" * len(ids), device="cpu"
    )
    return QueuedRequest(Answer(), writer, [65, 66, 67], slot=slot, max_tokens=3 + num_new)


def begin(work: Scheduler, *requests: QueuedRequest) -> None:
    for request in requests:
        work.submit(request)
        work.advance()


def check_two_places(work: Scheduler) -> None:
    assert not work.busy
    for _ in range(2):
        work.submit(queued())
    with pytest.raises(BusyError):
        work.submit(queued())


def test_a_client_that_leaves_between_two_looks(work):
    request = queued()
    begin(work, request)
    request.answer.looks = [False, True]
    for _ in range(3):
        work.advance()
    check_two_places(work)


def test_a_batch_that_cannot_take_the_row(work, monkeypatch):
    def fail(*args, **options):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(scheduler.Batch, "join", fail)
    request = queued()
    begin(work, request)
    assert "out of memory" in request.answer.error
    check_two_places(work)


def test_a_step_that_fails_after_one_row_came_to_its_end(work, monkeypatch):
    short, long = queued(4), queued()
    begin(work, short, long)
    write = AnswerWriter.write

    def fail_for_long(writer, logits):
        if writer is long.writer:
            raise torch.OutOfMemoryError
        return write(writer, logits)

    monkeypatch.setattr(AnswerWriter, "write", fail_for_long)
    work.advance()
    assert short.answer.items[-1].finish_reason == "length" and "out of memory" in long.answer.error
    monkeypatch.undo()
    check_two_places(work)


def test_memory_that_runs_out_leaves_those_alone_that_wait(model, slots, monkeypatch):
    settings = ServerSettings(max_batch=1)
    work = Scheduler(model, slots, device="cpu", num_tokens=256, settings=settings)
    running, waiting = queued(), queued(2)
    begin(work, running, waiting)

    def fail(batch):
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(scheduler.Batch, "step", fail)
        work.advance()
    assert "out of memory" in running.answer.error
    while work.busy:
        work.advance()
    assert waiting.answer.items[-1].finish_reason == "length"


def test_an_error_that_nobody_foresaw_ends_one_row_alone(work, monkeypatch, caplog):
    bystander, broken = queued(8), queued()
    begin(work, bystander, broken)
    monkeypatch.setattr(broken.writer, "_decode", None)
    monkeypatch.setattr(broken.writer._decoder, "_decode", None)
    while work.busy:
        work.advance()
    assert "failed on this request" in broken.answer.error and "TypeError" in caplog.text
    assert bystander.answer.items[-1].finish_reason == "length" and len(bystander.answer.items) == 8
    check_two_places(work)


def load(slots: AdapterSlots, slot: str) -> None:
    names = slots.names(("q_proj",))
    slots.load(
        slot, {name: LinearFactors(*(torch.full((2, size), 0.5) for size in slots.size_of(name))) for name in names}
    )


@pytest.mark.parametrize("end", ["by itself", "cancelled", "withdrawn", "abandoned"])
def test_an_adapter_goes_when_its_last_request_has_ended(work, slots, end):
    load(slots, "one")
    bystander, user = queued(12), queued(6, slot="one")
    begin(work, bystander)
    work.submit(user)
    if end != "withdrawn":
        work.advance()
    work.release("one")
    assert "one" in slots
    if end == "cancelled":
        user.answer.looks = [True]
    elif end == "withdrawn":
        work.withdraw(user)
    elif end == "abandoned":
        work.abandon(EngineError("stop", ""))
    while work.busy:
        work.advance()
    assert "one" not in slots and slots.num_ranks == 0
    if end == "by itself":
        assert user.answer.items[-1].finish_reason == "length" and len(user.answer.items) == 6
    if end != "abandoned":
        assert len(bystander.answer.items) == 12
    check_two_places(work)


def test_a_request_for_an_adapter_that_is_gone_fails_alone(work):
    bystander, late = queued(5), queued(slot="gone")
    begin(work, bystander, late)
    while work.busy:
        work.advance()
    assert "unloaded" in late.answer.error and len(bystander.answer.items) == 5
    check_two_places(work)


def test_padding_counts_as_memory(model, slots, monkeypatch):
    """Four rows of 53 tokens hold 212; one of 103 beside them would make five of 103."""
    settings = ServerSettings(max_batch_tokens=400)
    work = Scheduler(model, slots, device="cpu", num_tokens=256, settings=settings)
    begin(work, *(queued(50) for _ in range(4)))
    late, last = queued(100), queued(1)
    begin(work, late, last)
    assert not late.answer.items and not last.answer.items
    while work.busy:
        work.advance()
    assert len(late.answer.items) == 100 and len(last.answer.items) == 1


def test_one_error_for_many_does_not_grow():
    from serving.engines.stream import StreamedAnswer

    error = EngineError("no", "")

    async def depth() -> int:
        answer = StreamedAnswer(num_prompt_tokens=1, withdraw=lambda: None)
        answer.send(error)
        with pytest.raises(EngineError):
            await anext(aiter(answer))
        found, size = error.__traceback__, 0
        while found:
            found, size = found.tb_next, size + 1
        return size

    assert asyncio.run(depth()) == asyncio.run(depth())
