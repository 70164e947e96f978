"""Whether a server lives is found out soon, and without a proxy; a real one dies in tests/e2e/test_mlflow_server.py."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from finetune.contracts.errors import MachineError, RecipeError
from finetune.recipe.load import load_recipe
from finetune.tracking.server_store import ServerStore


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def healthy() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_one_that_answers_is_good_whatever_proxy_is_named(healthy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "intranet")
    monkeypatch.delenv("NO_PROXY", raising=False)
    ServerStore(f"{healthy}/").check(0.2)


def test_one_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(MachineError, match=f"server at {address} does not answer: .*refused") as caught:
        ServerStore(address).client()
    assert "track.server" in caught.value.hint


def test_one_that_hangs_is_given_up_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(MachineError, match="does not answer: .*timed out"):
            ServerStore(f"http://127.0.0.1:{silent.getsockname()[1]}").check(0.2)
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("http://127.0.0.1:5000", True),
        ("https://localhost/", True),
        ("http://[::1]:5000", True),
        ("http://mlflow.example:5000", False),
        ("http://127.0.0.1.example:5000", False),
        ("http://127.0.0.1:5000@example", False),
        ("sqlite:///mlflow.db", False),
    ],
)
def test_a_recipe_takes_a_server_on_this_machine_alone(tmp_path: Path, address: str, good: bool) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: x\nbase: {{path: embedded}}\ntrack: {{server: '{address}'}}\n")
    if good:
        assert load_recipe(path).recipe.track.server == address
        return
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert "track.server" in caught.value.problems[0]
