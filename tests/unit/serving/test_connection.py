"""A connection over a real socket, and requests that never end or turn into nonsense."""

import contextlib
import logging
import socket
import threading
import time

import pytest

import serving.connection
from serving.app import create_app
from serving.run import PreparedServer, listen, serve_in_thread, server_of

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"


@contextlib.contextmanager
def connected(app, settings):
    """A socket to a server of app."""
    settings = settings.model_copy(update={"port": 0})
    with contextlib.closing(listen(settings)) as listener:
        prepared = PreparedServer(server_of(app, settings), listener, "", ())
        with serve_in_thread(prepared), socket.create_connection(listener.getsockname(), timeout=10) as sent:
            yield sent


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(serving.connection, "READ_SECONDS", 0.3)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET /liv",
        HEAD + b"X: ",
        HEAD + b"Content-Length: 100\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1",
    ],
)
def test_a_request_that_does_not_come_whole_is_not_waited_for(engine, store, settings, patient, start):
    app = create_app(engine, store, settings=settings)
    with connected(app, settings) as sent:
        sent.sendall(start)
        with contextlib.suppress(ConnectionResetError):
            assert sent.recv(1000) == b""


def test_the_rest_of_a_body_that_was_refused_is_not_waited_for(engine, store, settings, patient):
    app = create_app(engine, store, settings=settings)
    with connected(app, settings) as sent:
        sent.sendall(b"POST /v1/nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        assert b" 404 " in sent.recv(1000)
        deadline = time.monotonic() + 10
        with contextlib.suppress(OSError):
            # a letter now and then keeps uvicorn's own clock from running
            while time.monotonic() < deadline:
                sent.sendall(b"x")
                time.sleep(0.02)
        assert time.monotonic() < deadline


def test_an_answer_may_take_longer_than_its_request(engine, store, settings, patient):
    engine.hang = True
    app = create_app(engine, store, settings=settings)
    body = b'{"model": "base", "prompt": "x", "stream": true}'
    with connected(app, settings) as sent:
        sent.sendall(HEAD + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert b" 200 " in sent.recv(15)
        time.sleep(3 * serving.connection.READ_SECONDS)
        engine.generations[0].release()
        received = b""
        while b"[DONE]" not in received:
            received += sent.recv(1000)
            assert received


def test_nonsense_in_a_body_ends_the_request_without_a_failure(settings, caplog):
    """The application begins to answer when the connection has just answered for it."""
    answered = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            answered.set()

    with caplog.at_level(logging.ERROR), connected(app, settings) as sent:
        logger = logging.getLogger("uvicorn.error")
        logger.addHandler(caplog.handler)
        sent.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        assert b" 400 " in sent.recv(1000)
        assert answered.wait(10)
        logger.removeHandler(caplog.handler)
    assert caplog.records == []
