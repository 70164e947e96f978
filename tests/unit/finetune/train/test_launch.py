"""Processes that train together: what each is given, and how they end together."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from finetune.contracts.errors import EgressError, MachineError, RecipeError
from finetune.train.launch import run_ranks
from finetune.train.ranks import Ranks

pytestmark = pytest.mark.slow
HINT = "Go on."


def what_all_say(ranks: Ranks) -> tuple[list[int], int, float, bool]:
    sys.stdout.write("nothing of this may reach stdout\n")
    return (
        list(ranks.gather(ranks.rank)),
        ranks.share(ranks.rank + 7),
        ranks.mean(ranks.rank),
        ranks.any(ranks.rank > 0),
    )


def test_the_ranks_hear_each_other_and_leave_stdout_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_ranks(what_all_say, 2, hint=HINT) == ([0, 1], 7, 0.5, True)
    assert capfd.readouterr().out == ""


def listening(ranks: Ranks) -> list[str]:
    """Local addresses, in hexadecimal, of the sockets of this process that wait for connections."""
    ranks.gather(0)
    mine = {os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().split("\n")[1:]]
    found = [row[1].split(":")[0] for row in rows if row and row[3] == "0A" and f"socket:[{row[9]}]" in mine]
    return [address for addresses in ranks.gather(found) for address in addresses]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/net is Linux's")
def test_nothing_listens_beyond_loopback() -> None:
    found = run_ranks(listening, 2, hint=HINT)
    assert found
    assert set(found) == {"0100007F"}


def call_out(ranks: Ranks) -> None:
    socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_no_rank_may_call_out() -> None:
    with pytest.raises(EgressError, match=r"192\.0\.2\.1"):
        run_ranks(call_out, 2, hint=HINT)


def refuse(ranks: Ranks) -> None:
    if ranks.rank == 1:
        raise RecipeError("The recipe is wrong:", "Correct it.", ["line 3"])
    ranks.gather(0)


def test_the_error_of_one_ends_all() -> None:
    with pytest.raises(RecipeError, match="line 3"):
        run_ranks(refuse, 2, hint=HINT)


def break_down(ranks: Ranks) -> None:
    if ranks.rank == 1:
        raise ZeroDivisionError("by hand")
    ranks.gather(0)


def test_a_bug_of_one_is_told_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: by hand") as caught:
        run_ranks(break_down, 2, hint=HINT)
    assert "in break_down" in str(caught.value.__cause__)


def die(ranks: Ranks) -> None:
    if ranks.rank == 1:
        sys.stdout.write("memory is short\n")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def test_a_death_of_one_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.train.launch.GRACE_SECONDS", 0.5)
    with pytest.raises(MachineError) as caught:
        run_ranks(die, 2, hint=HINT)
    assert caught.value.message == (
        "Process 2 of 2 was killed by SIGKILL, so all were stopped. Its last line: memory is short"
    )
    assert caught.value.hint == HINT


def interrupt_the_starter(ranks: Ranks) -> None:
    ranks.gather(0)
    if ranks.leads:
        os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)


def test_an_interrupt_reaches_all() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run_ranks(interrupt_the_starter, 2, hint=HINT)
    assert signal.getsignal(signal.SIGTERM) is before
