"""What the command line says when the other end is not what it should be."""

import http.server
import threading

import pytest

from finetune.contracts.errors import AdapterError, MachineError, UsageError
from serving.client import call
from serving.errors import AccessError


class Canned(http.server.BaseHTTPRequestHandler):
    """Answers with what the server was given."""

    def do_GET(self) -> None:
        status, body = self.server.canned
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def answer():
    """Set what the server answers; returns its URL."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Canned)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def prepare(status: int, body: bytes) -> str:
        server.canned = status, body
        return f"http://127.0.0.1:{server.server_port}"

    yield prepare
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_document_comes_back(answer):
    assert call(answer(200, b'{"a": 1}'), "/x", expects="a") == {"a": 1}


def test_a_refusal_carries_the_server_s_words(answer):
    url = answer(409, b'{"error": {"message": "The name is in use."}}')
    with pytest.raises(AdapterError, match="refused: The name is in use"):
        call(url, "/x", expects="a")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"error": "text"}', b"\xff"])
@pytest.mark.parametrize("status", [200, 500])
def test_what_is_not_our_server_is_told(answer, body, status):
    with pytest.raises((MachineError, AdapterError)):
        call(answer(status, body), "/x", expects="a")


def test_nobody_there_is_told_with_the_next_command(answer):
    with pytest.raises(MachineError, match="No server answers at http://127.0.0.1:1") as caught:
        call("http://127.0.0.1:1", "/x", expects="a")
    assert "finetune serve start" in caught.value.hint


@pytest.mark.parametrize("url", ["https://127.0.0.1", "file:///etc/passwd", "127.0.0.1:8000", ""])
def test_only_http_is_spoken(url):
    with pytest.raises(UsageError):
        call(url, "/x", expects="a")


def test_a_proxy_in_the_environment_is_not_used(answer, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert call(answer(200, b'{"a": 1}'), "/x", expects="a") == {"a": 1}


def test_the_key_comes_from_the_environment_or_a_file(answer, monkeypatch, tmp_path):
    sent: list[str | None] = []
    url = answer(200, b'{"a": 1}')
    do_get = Canned.do_GET
    monkeypatch.setattr(Canned, "do_GET", lambda self: sent.append(self.headers["Authorization"]) or do_get(self))
    (tmp_path / "key").write_text("ftk_file\n")
    monkeypatch.delenv("FINETUNE_API_KEY", raising=False)
    call(url, "/x", expects="a")
    monkeypatch.setenv("FINETUNE_API_KEY", "ftk_env")
    call(url, "/x", expects="a")
    call(url, "/x", expects="a", key_file=tmp_path / "key")
    assert sent == [None, "Bearer ftk_env", "Bearer ftk_file"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_with_where_to_put_another(answer, status):
    with pytest.raises(AccessError, match="refused: No") as caught:
        call(answer(status, b'{"error": {"message": "No."}}'), "/x", expects="a")
    assert "FINETUNE_API_KEY" in caught.value.hint and "--key-file" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\nb", b"\xff", "é".encode()])
def test_what_is_no_key_is_not_sent(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    for key_file in (tmp_path / "key", tmp_path / "absent"):
        with pytest.raises(UsageError):
            call("http://127.0.0.1:1", "/x", expects="a", key_file=key_file)
