"""Work beside the answers: its own thread, priority and number of cores."""

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from serving.aside import NICENESS, _go_last, aside


def seen() -> tuple[int, int]:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), torch.get_num_threads()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own here")
def test_it_goes_last_and_takes_one_core():
    number = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1, initializer=_go_last) as pool:
            niceness, threads = pool.submit(seen).result()
        assert niceness >= NICENESS and threads == 1
        assert torch.get_num_threads() == 2 and os.getpriority(os.PRIO_PROCESS, 0) < NICENESS
    finally:
        torch.set_num_threads(number)


def test_one_follows_another_also_over_event_loops():
    told: list[int] = []

    async def scene() -> None:
        await asyncio.gather(*(aside(told.append, number) for number in range(50)))

    asyncio.run(scene())
    asyncio.run(scene())
    assert told == [*range(50), *range(50)]


def test_what_goes_wrong_reaches_who_waits():
    with pytest.raises(ZeroDivisionError):
        asyncio.run(aside(lambda: 1 / 0))
