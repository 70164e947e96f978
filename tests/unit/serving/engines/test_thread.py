"""The model's thread: calls between steps, failures that end nothing else, closing."""

import asyncio
import threading

import pytest

from finetune.contracts.errors import AdapterError
from serving.engines.thread import ModelThread
from serving.errors import EngineError


class Steps:
    """Work of so many steps, each of which waits at the gate."""

    def __init__(self) -> None:
        self.left = 0
        self.seen: list[str] = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self.failing = False
        self.abandoned: list[str] = []

    @property
    def busy(self) -> bool:
        return self.left > 0

    def advance(self) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        self.left -= 1
        self.seen.append(threading.current_thread().name)
        if self.failing:
            raise ZeroDivisionError

    def abandon(self, error) -> None:
        self.left = 0
        self.abandoned.append(str(error))


@pytest.fixture
def steps():
    return Steps()


@pytest.fixture
def thread(steps):
    one = ModelThread(steps)
    yield one
    one.close()


def test_a_call_runs_between_two_steps(thread, steps):
    async def scene():
        steps.gate.clear()
        steps.left = 1000
        thread.wake()
        called = [asyncio.create_task(thread.call(lambda: (threading.current_thread().name, steps.left)))]
        await asyncio.sleep(0.01)
        steps.gate.set()
        name, left = await called[0]
        assert name == "model" and left > 900
        while steps.busy:
            await asyncio.sleep(0.001)
        assert set(steps.seen) == {"model"} and len(steps.seen) == 1000

    asyncio.run(scene())


def test_a_call_or_a_step_that_fails_leaves_the_thread_at_work(thread, steps, caplog):
    def fail():
        raise ZeroDivisionError

    def refuse():
        raise AdapterError("no", "do")

    async def scene():
        with pytest.raises(EngineError):
            await thread.call(fail)
        with pytest.raises(AdapterError):
            await thread.call(refuse)
        steps.failing, steps.left = True, 3
        thread.wake()
        while not steps.abandoned:
            await asyncio.sleep(0.001)
        assert await thread.call(lambda: 5) == 5

    asyncio.run(scene())
    assert len(caplog.records) == 2 and "ZeroDivisionError" in caplog.text and "The engine failed" in steps.abandoned[0]


def test_the_work_goes_on_in_the_middle_of_a_call(thread, steps, caplog):
    def long_call():
        assert not thread.go_on()
        steps.left = 2
        taken = [thread.go_on(), thread.go_on(), thread.go_on()]
        steps.left, steps.failing = 1, True
        return [*taken, thread.go_on()]

    async def scene():
        assert await thread.call(long_call) == [True, True, False, True]

    asyncio.run(scene())
    assert steps.seen == ["model"] * 3 and "The engine failed" in steps.abandoned[0]


def test_closing_ends_the_work_and_what_waits(steps):
    async def scene():
        thread = ModelThread(steps)
        steps.gate.clear()
        steps.left = 5
        thread.wake()
        assert await asyncio.to_thread(steps.entered.wait, 10)
        waiting = asyncio.create_task(thread.call(lambda: None))
        closing = asyncio.create_task(asyncio.to_thread(thread.close))
        while thread.alive:
            await asyncio.sleep(0.001)
        steps.gate.set()
        await closing
        with pytest.raises(EngineError, match="stopping"):
            await waiting
        assert not thread.alive and len(steps.seen) == 1 and "stopping" in steps.abandoned[0]
        with pytest.raises(EngineError):
            await thread.call(lambda: None)
        with pytest.raises(EngineError):
            thread.wake()
        thread.close()

    asyncio.run(scene())


def test_an_answer_for_a_closed_loop_is_dropped(thread):
    gate = threading.Event()

    async def scene():
        asyncio.get_running_loop().create_task(thread.call(lambda: gate.wait(10)))
        await asyncio.sleep(0.01)

    asyncio.run(scene())
    gate.set()

    async def again():
        assert await thread.call(lambda: 1) == 1

    asyncio.run(again())
