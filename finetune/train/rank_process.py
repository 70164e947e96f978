"""One process of a run: where it stands, how it meets the others, and what it reports to the one that started it."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from finetune.contracts.errors import MachineError, PlatformError
from finetune.guard.offline import go_offline
from finetune.train.ranks import Ranks

# A process that dies is noticed at once; this ends a wait for one that hangs
COLLECTIVE_TIMEOUT = timedelta(hours=2)
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@dataclass(frozen=True)
class Outcome:
    """How the work of one process ended: with a result, an error, an interrupt, or a bug's traceback.

    at is the time of it, in seconds since the epoch.
    """

    result: Any = None
    error: PlatformError | None = None
    interrupted: bool = False
    bug: str = ""
    at: float = field(default_factory=time.time)

    @property
    def good(self) -> bool:
        """Whether the work was done."""
        return self.error is None and not self.interrupted and not self.bug


def log_of(folder: Path, rank: int) -> Path:
    """Where a process that does not lead writes what the leader shows on the terminal."""
    return folder / f"rank-{rank}.log"


def work_as(ranks: Ranks, work: Callable[[Ranks], Any], *, folder: Path, pipe: Connection) -> None:
    """The main function of a process: join the others through folder, do work, send an Outcome."""
    _stand_apart(ranks, folder)
    outcome = _outcome(ranks, folder, work)
    # it breaks where the one that started us is gone; what was saved is saved
    with suppress(BrokenPipeError):
        pipe.send(outcome)
    if not outcome.good:
        # a process group with a lost member may wait for it on the way out
        sys.stderr.flush()
        os._exit(1)


def _outcome(ranks: Ranks, folder: Path, work: Callable[[Ranks], Any]) -> Outcome:
    try:
        _join(ranks, folder)
        result = work(ranks)
        _leave()
    except KeyboardInterrupt:
        return Outcome(interrupted=True)
    except PlatformError as error:
        return Outcome(error=error)
    except BaseException:
        return Outcome(bug=traceback.format_exc())
    return Outcome(result=result if ranks.leads else None)


def _stand_apart(ranks: Ranks, folder: Path) -> None:
    # Ctrl-C in a terminal goes to its whole session; the one that started us passes it on, once
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Thread(target=_stop_without_parent, daemon=True).start()
    # stdout belongs to the result, which the one that started us prints
    place = 2 if ranks.leads else os.open(log_of(folder, ranks.rank), os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(place, 1)
    os.dup2(place, 2)
    os.environ.update(
        RANK=str(ranks.rank),
        LOCAL_RANK=str(ranks.rank),
        WORLD_SIZE=str(ranks.size),
        LOCAL_WORLD_SIZE=str(ranks.size),
        GLOO_SOCKET_IFNAME=LOOPBACK,
        NCCL_SOCKET_IFNAME=LOOPBACK,
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks.size)))
    go_offline()


def _stop_without_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGINT)


def _join(ranks: Ranks, folder: Path) -> None:
    """Meet the others through a file: a TCP store would listen on every interface."""
    import torch
    from torch import distributed

    backend = "gloo"
    if torch.cuda.is_available():
        num_cards = torch.cuda.device_count()
        if num_cards < ranks.size:
            raise MachineError(
                f"train.num_processes is {ranks.size}, a card for each, and this machine has {num_cards}.",
                f"Set train.num_processes={num_cards}.",
            )
        torch.cuda.set_device(ranks.rank)
        backend = "cuda:nccl,cpu:gloo"
    distributed.init_process_group(
        backend,
        init_method=(folder / "rendezvous").as_uri(),
        rank=ranks.rank,
        world_size=ranks.size,
        timeout=COLLECTIVE_TIMEOUT,
    )


def _leave() -> None:
    from torch import distributed

    distributed.destroy_process_group()
