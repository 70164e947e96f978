"""Work beside the answers: one thread, which gets the processor after those that compute, and takes one core.

A load hashes, copies and converts tens of megabytes. With torch's threads it would take all cores at once, and leave
behind threads of OpenMP that each step then has to wake; see docs/benchmarks.md.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
# Of 19: a tenth of the processor's time where a thread of the usual 0 wants all of it
NICENESS = 10


async def aside(function: Callable[P, ResultT], /, *args: P.args, **options: P.kwargs) -> ResultT:
    """The result of function, which runs after what was given before."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, partial(function, *args, **options))


def _go_last() -> None:
    from threadpoolctl import threadpool_limits

    if sys.platform == "linux":
        # there, a thread has a priority of its own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    if torch := sys.modules.get("torch"):
        # it sets the number at a thread's first use, and would undo the limit then
        torch.get_num_threads()
    threadpool_limits(1, user_api="openmp")


_POOL = ThreadPoolExecutor(1, thread_name_prefix="aside", initializer=_go_last)
