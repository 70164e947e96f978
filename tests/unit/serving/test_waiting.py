"""A server that is started while a job has the card says so on its port, and goes on there when the card is free."""

import contextlib
import http.client
import json
import os
import threading

from finetune.contracts.card import Card, CardJob, CardServer
from serving.access.access import Access
from serving.card import CardHold
from serving.run import listen
from serving.settings import ServerSettings
from serving.waiting import wait_for_card

SETTINGS = ServerSettings(port=0)


def ask(port: int, method: str, path: str, host: str = "127.0.0.1") -> tuple[int, str | None, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, "{}", {"Host": host})
        response = connection.getresponse()
        return response.status, response.headers["Retry-After"], response.read().decode()


def test_who_asks_is_told_what_is_waited_for_until_the_card_is_free(tmp_path):
    card = Card(tmp_path / "cpu")
    hold = CardHold(card, CardServer(pid=os.getpid(), url="http://127.0.0.1", yields=True, drain_seconds=1))
    with contextlib.closing(listen(SETTINGS)) as listener, hold:
        port = listener.getsockname()[1]
        waiting = threading.Thread(target=wait_for_card, args=(hold, listener, SETTINGS), kwargs={"access": Access()})
        with card.wanted(CardJob(pid=7, does="finetune train shop")):
            assert hold.take() == CardJob(pid=7, does="finetune train shop") and card.servers() == []
            waiting.start()
            status, retry_after, text = ask(port, "POST", "/v1/chat/completions")
            assert (status, retry_after) == (503, "30") and json.loads(text)["error"]["code"] == "card_in_use"
            assert ask(port, "GET", "/livez")[0] == 200
            status, _, text = ask(port, "GET", "/readyz")
            assert status == 503 and "finetune train shop" in json.loads(text)["reason"]
            assert ask(port, "GET", "/v1/models", host="elsewhere.example")[0] != 503
            assert waiting.is_alive() and card.servers() == []
        waiting.join(20)
        assert not waiting.is_alive() and len(card.servers()) == 1
        # the port is there for the server itself
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(client):
            client.connect()
            listener.accept()[0].close()


def test_a_free_card_is_taken_at_once(tmp_path):
    card = Card(tmp_path / "cpu")
    hold = CardHold(card, CardServer(pid=os.getpid(), url="http://127.0.0.1", yields=True, drain_seconds=1))
    with contextlib.closing(listen(SETTINGS)) as listener, hold:
        wait_for_card(hold, listener, SETTINGS, access=Access())
        assert len(card.servers()) == 1
    assert card.servers() == []
