"""The model's thread: order, places, cancelling, closing."""

import asyncio
import threading

import pytest

from finetune.contracts.errors import AdapterError
from serving.engines.base import Delta
from serving.engines.stream import QueuedGeneration
from serving.engines.thread import ModelThread
from serving.errors import BusyError, EngineError


@pytest.fixture
def thread():
    one = ModelThread(max_requests=2)
    yield one
    one.close()


def letters(text: str, gate: threading.Event | None = None, made: list[str] | None = None):
    """A producer of one delta a letter, which waits at gate after the first."""

    def produce():
        for place, letter in enumerate(text):
            if made is not None:
                made.append(letter)
            if place and gate:
                assert gate.wait(10)
            yield Delta(letter, num_tokens=1)

    return produce


async def read(generation) -> str:
    return "".join([delta.text async for delta in generation])


def test_jobs_run_in_their_order_on_one_thread(thread):
    async def scene():
        names = await asyncio.gather(*(thread.call(lambda: threading.current_thread().name) for _ in range(3)))
        assert set(names) == {"model"}
        first, second = (QueuedGeneration(thread, letters(text), num_prompt_tokens=1) for text in ("ab", "cd"))
        thread.submit(first)
        thread.submit(second)
        assert await asyncio.gather(read(second), read(first)) == ["cd", "ab"]

    asyncio.run(scene())


def test_a_request_too_many_is_told_when_to_come_back(thread):
    async def scene():
        gate = threading.Event()
        jobs = [QueuedGeneration(thread, letters("ab", gate), num_prompt_tokens=1) for _ in range(3)]
        thread.submit(jobs[0])
        thread.submit(jobs[1])
        with pytest.raises(BusyError) as caught:
            thread.submit(jobs[2])
        assert caught.value.retry_after_seconds >= 1
        loading = asyncio.create_task(thread.call(lambda: "loaded"))
        await asyncio.sleep(0.01)
        gate.set()
        assert await loading == "loaded"
        assert await read(jobs[1]) == "ab"
        thread.check_room()

    asyncio.run(scene())


def test_a_cancelled_request_stops_and_frees_its_place(thread):
    async def scene():
        gate, made = threading.Event(), []
        running = QueuedGeneration(thread, letters("abcdef", gate, made), num_prompt_tokens=1)
        waiting = QueuedGeneration(thread, letters("x", made=made), num_prompt_tokens=1)
        thread.submit(running)
        thread.submit(waiting)
        async for _ in running:
            break
        with pytest.raises(BusyError):
            thread.check_room()
        waiting.cancel()
        thread.check_room()
        running.cancel()
        gate.set()
        await thread.call(lambda: None)
        assert made in (["a"], ["a", "b"])
        thread.check_room()

    asyncio.run(scene())


def test_a_job_that_fails_leaves_the_thread_at_work(thread, caplog):
    def fail():
        raise ZeroDivisionError

    def produce():
        yield Delta("a", num_tokens=1)
        raise ZeroDivisionError

    def refuse():
        raise AdapterError("no", "do")

    async def scene():
        with pytest.raises(EngineError):
            await thread.call(fail)
        with pytest.raises(AdapterError):
            await thread.call(refuse)
        broken = QueuedGeneration(thread, produce, num_prompt_tokens=1)
        thread.submit(broken)
        with pytest.raises(EngineError):
            await read(broken)
        assert await thread.call(lambda: 5) == 5

    asyncio.run(scene())
    assert "ZeroDivisionError" in caplog.text


def test_closing_ends_what_runs_and_what_waits():
    async def scene():
        thread, gate = ModelThread(max_requests=4), threading.Event()
        running, waiting = (QueuedGeneration(thread, letters("abc", gate), num_prompt_tokens=1) for _ in range(2))
        thread.submit(running)
        thread.submit(waiting)
        closing = asyncio.create_task(asyncio.to_thread(thread.close))
        await asyncio.sleep(0.05)
        gate.set()
        for one in (running, waiting):
            with pytest.raises(EngineError, match="stopping"):
                await read(one)
        await closing
        assert not thread.alive
        with pytest.raises(EngineError):
            await thread.call(lambda: None)
        thread.close()

    asyncio.run(scene())


def test_an_answer_for_a_closed_loop_is_dropped(thread):
    async def ask():
        job = QueuedGeneration(thread, letters("a"), num_prompt_tokens=1)
        thread.submit(job)

    asyncio.run(ask())
    assert asyncio.run(thread.call(lambda: 1)) == 1
