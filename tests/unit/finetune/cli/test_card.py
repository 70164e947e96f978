"""Commands that want the card: whom they ask, whom they wait for, and when they give up."""

import os
import threading
import time

import pytest

from finetune.cli.card import having_card
from finetune.cli.main import run
from finetune.contracts.card import CardJob, CardServer, CardTakenError
from finetune.contracts.errors import MachineError
from finetune.contracts.run import Home
from finetune.guard.jail import Needs
from finetune.model.cards import cards


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def card(home):
    return cards(home.cards)[0]


def told(*, yields: bool = True, drain_seconds: float = 300) -> CardServer:
    return CardServer(pid=os.getpid(), url="http://127.0.0.1:8000", yields=yields, drain_seconds=drain_seconds)


def test_a_server_is_asked_and_waited_for(home, card, monkeypatch):
    notes: list[str] = []
    ready = threading.Event()

    def serve() -> None:
        with card.served(told()):
            ready.set()
            deadline = time.monotonic() + 20
            while not notes and time.monotonic() < deadline:
                time.sleep(0.01)

    monkeypatch.setattr("finetune.terminal.output.note", notes.append)
    server = threading.Thread(target=serve)
    server.start()
    ready.wait(10)
    with having_card(home, "finetune train shop"):
        assert card.servers() == [] and card.wanted_by().does == "finetune train shop"
    server.join()
    assert card.wanted_by() is None and len(notes) == 2
    assert f"Asked the server at http://127.0.0.1:8000 (process {os.getpid()}) for the card" in notes[0]
    assert "5 min 00 s at most" in notes[0] and "The card is free after" in notes[1]


def test_a_server_that_does_not_leave_is_not_waited_for_for_ever(home, card, monkeypatch):
    monkeypatch.setattr("finetune.cli.card.LOADING_SECONDS", 0.0)
    held = having_card(home, "finetune train shop")
    with card.served(told(drain_seconds=0.1)), pytest.raises(MachineError, match="does not leave the card"), held:
        pass
    assert card.wanted_by() is None


def test_a_server_that_keeps_its_card_is_not_disturbed(home, card):
    asked = having_card(home, "finetune train shop")
    with card.served(told(yields=False)):
        with pytest.raises(MachineError, match="started with --keep-card") as caught, asked:
            pass
        assert "--share-card" in caught.value.hint
        with having_card(home, "finetune train shop", share=True):
            assert card.wanted_by() is None


def test_a_server_of_another_home_is_not_asked(home, tmp_path):
    other = cards(Home(tmp_path / "other").cards)[0]
    with other.served(told()), having_card(home, "finetune train shop"):
        assert other.wanted_by() is None and other.servers() == [told()]


def test_the_second_job_is_told_of_the_first(home):
    second = having_card(home, "finetune evaluate shop")
    with having_card(home, "finetune train shop"), pytest.raises(CardTakenError, match="finetune train shop"), second:
        pass


@pytest.fixture
def recipe(tmp_path, resolved_tiny):
    resolved_tiny()
    return str(tmp_path / "tiny.yaml")


@pytest.mark.parametrize("words", [[], ["--sweep", "lora.rank=2,4"]])
def test_training_wants_the_card(home, card, recipe, words, capsys):
    with card.wanted(CardJob(pid=7, does="finetune evaluate shop")):
        assert run(["train", recipe, *words, "--home", str(home.root)]) == 4
    assert "in use by finetune evaluate shop (process 7)" in capsys.readouterr().err


def test_a_mistyped_path_asks_nobody_for_the_card(home, card, recipe, tmp_path, capsys):
    with card.served(told(yields=False)):
        for mistake in ("data.dataset=absent", "base.path=absent"):
            assert run(["train", recipe, "--set", mistake, "--home", str(home.root)]) == 3
        assert run(["evaluate", "absent", "--home", str(home.root)]) == 3
    assert "--keep-card" not in capsys.readouterr().err


def test_an_evaluation_wants_the_card_but_not_where_it_asks_an_endpoint(home, card, monkeypatch, capsys):
    monkeypatch.setattr("finetune.adapters.find.find_usable", lambda *_: None)
    monkeypatch.setattr("finetune.cli.evaluate._needs", lambda *_: Needs())

    def stop(*_: object, **__: object) -> None:
        raise MachineError("It began.", "")

    monkeypatch.setattr("finetune.cli.evaluate.run_evaluation", stop)
    with card.wanted(CardJob(pid=7, does="finetune train shop")):
        for words, said in (
            ([], "in use by"),
            (["--endpoint", "http://127.0.0.1:1"], "It began"),
            (["--share-card"], "It began"),
        ):
            assert run(["evaluate", "shop", *words, "--home", str(home.root)]) == 4
            assert said in capsys.readouterr().err


def test_pausing_has_the_card_until_it_is_interrupted(home, card, monkeypatch):
    jobs = []

    def interrupt(seconds: float) -> None:
        jobs.append(card.wanted_by())
        raise KeyboardInterrupt

    monkeypatch.setattr("finetune.cli.pause.time.sleep", interrupt)
    assert run(["serve", "pause", "--home", str(home.root)]) == 0
    assert [one.does for one in jobs] == ["finetune serve pause"] and card.wanted_by() is None
