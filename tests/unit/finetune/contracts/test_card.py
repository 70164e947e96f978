"""Who has the card: real processes that are killed while they hold it, and both sides at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from finetune.contracts.card import Card, CardJob, CardServer, CardTakenError

HOLD = """
import os, sys, time
from pathlib import Path
from finetune.contracts.card import Card, CardJob, CardServer
card = Card(Path(sys.argv[2]))
if sys.argv[1] == "job":
    held = card.wanted(CardJob(pid=os.getpid(), does="finetune train shop"))
else:
    held = card.served(CardServer(pid=os.getpid(), url="http://127.0.0.1:8000", yields=True, drain_seconds=5))
with held:
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(kind: str, folder):
    """Another process that holds the card until the block ends, or until it is killed in it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, kind, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def card(tmp_path):
    return Card(tmp_path / "cards" / "cpu")


def job(does: str = "finetune evaluate shop") -> CardJob:
    return CardJob(pid=os.getpid(), does=does)


def server() -> CardServer:
    return CardServer(pid=os.getpid(), url="http://127.0.0.1:8001", yields=True, drain_seconds=1)


def test_a_card_that_nobody_has_is_free(card):
    assert card.wanted_by() is None and card.servers() == []


def test_a_second_job_is_told_who_the_first_is_and_gets_the_card_when_that_is_killed(card, tmp_path):
    with holder("job", tmp_path / "cards" / "cpu") as other:
        assert card.wanted_by() == CardJob(pid=other.pid, does="finetune train shop")
        with pytest.raises(CardTakenError, match=rf"finetune train shop \(process {other.pid}\)"), card.wanted(job()):
            pass
        other.kill()
        other.wait()
        assert card.wanted_by() is None
        with card.wanted(job()):
            assert card.wanted_by() == job()
    assert card.wanted_by() is None


PARENT = """
import os, sys, time
from multiprocessing import get_context
from pathlib import Path
from finetune.contracts.card import Card, CardJob, HeldCards

def work(held, told):
    told.send(os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    with Card(Path(sys.argv[1])).wanted(CardJob(pid=os.getpid(), does="finetune train shop")) as handle:
        context = get_context("spawn")
        told, tell = context.Pipe(duplex=False)
        context.Process(target=work, args=(HeldCards([handle]), tell)).start()
        print(told.recv(), flush=True)
        time.sleep(60)
"""


def test_a_job_that_is_killed_has_the_card_until_its_processes_have_ended(card, tmp_path):
    """The processes of a run over several cards save what they have done after the one that started them is gone."""
    program = tmp_path / "parent.py"
    program.write_text(PARENT)
    command = [sys.executable, str(program), str(tmp_path / "cards" / "cpu")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait()
            assert card.wanted_by() is not None
        finally:
            os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while card.wanted_by() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_is_killed_has_the_card_no_more_and_leaves_nothing(card, tmp_path):
    folder = tmp_path / "cards" / "cpu"
    with holder("server", folder) as other, card.served(server()):
        assert {one.pid for one in card.servers()} == {other.pid, os.getpid()}
        other.kill()
        other.wait()
        assert card.servers() == [server()]
    assert card.servers() == [] and not list((folder / "servers").iterdir())


def test_a_server_that_looks_does_not_stand_in_a_job_s_way(card):
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            card.wanted_by()

    looking = [threading.Thread(target=look) for _ in range(3)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(100):
            with card.wanted(job()):
                assert card.wanted_by() == job()
    finally:
        done.set()
        for thread in looking:
            thread.join()


def test_a_job_and_a_server_never_both_have_the_card(card):
    """Each says what it wants before it looks at the other, whatever the moment."""
    serving, both, done = threading.Event(), threading.Event(), threading.Event()

    def serve() -> None:
        while not done.is_set():
            with card.served(server()):
                if card.wanted_by() is None:
                    serving.set()
                    time.sleep(0.002)
                    serving.clear()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for _ in range(30):
            with card.wanted(job()):
                while card.servers():
                    time.sleep(0.001)
                if serving.is_set():
                    both.set()
                time.sleep(0.002)
                if serving.is_set():
                    both.set()
    finally:
        done.set()
        thread.join()
    assert not both.is_set()
