"""MLflow's pages: where they listen, what is started, and that they end by their own process id."""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from finetune.contracts.errors import MachineError
from finetune.contracts.run import Home
from finetune.tracking import ui


def test_a_free_port_is_used_as_given_and_a_taken_one_is_not() -> None:
    with socket.socket() as other:
        other.bind((ui.HOST, 0))
        other.listen()
        taken = other.getsockname()[1]
        found = ui.free_port(taken)
        assert found not in (0, taken)
    assert ui.free_port(found) == found


def test_the_server_listens_on_loopback_and_reads_the_homes_store(home: Home) -> None:
    words = ui.command(home, 5001)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == "5001"
    assert words[words.index("--backend-store-uri") + 1] == f"sqlite:///{home.tracking_database}"


def test_stop_ends_a_child_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "STOP_SECONDS", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        ui.stop(child)
        assert child.returncode == -signal.SIGKILL


def test_a_server_that_ends_at_once_is_an_error_that_names_its_log(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "command", lambda *_: [sys.executable, "-c", "raise SystemExit('no')"])
    with pytest.raises(MachineError, match=r"ended at once with code 1.*mlflow-ui\.log"):
        ui.serve_ui(home, 0, ready=lambda _: None)
    assert (home.root / ui.LOG_NAME).read_text() == "no\n"


STAND_IN = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Pages).serve_forever()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_server_ends_with_the_command(home: Home, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    places: list[int] = []

    def stand_in(home: Home, port: int) -> list[str]:
        places.append(port)
        return [sys.executable, "-c", STAND_IN, str(port)]

    monkeypatch.setattr(ui, "command", stand_in)
    handlers = [signal.getsignal(one) for one in ui.ENDING]
    assert ui.serve_ui(home, 0, ready=lambda _: os.kill(os.getpid(), number)) == 0
    assert ui.free_port(places[0]) == places[0], "something still listens"
    assert [signal.getsignal(one) for one in ui.ENDING] == handlers


def test_the_proxy_of_infra_tells_browsers_the_same() -> None:
    text = (Path(__file__).parents[4] / "infra" / "mlflow" / "server.conf").read_text()
    assert f'add_header Content-Security-Policy "{ui.BROWSER_POLICY}" always;' in text


@pytest.mark.slow
def test_the_pages_answer_to_their_own_name_until_interrupted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    # what a shell may hold does not open them
    monkeypatch.setenv("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "true")
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "*")
    seen: list[tuple[int, str | None]] = []

    def ready(url: str) -> None:
        for host in (url.removeprefix("http://"), "evil.example", "192.168.0.7"):
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=20) as answer:
                    seen.append((answer.status, answer.headers["Content-Security-Policy"]))
            except urllib.error.HTTPError as error:
                seen.append((error.code, error.headers["Content-Security-Policy"]))
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    assert ui.serve_ui(home, 0, ready=ready) == 0
    assert seen == [(status, ui.BROWSER_POLICY) for status in (200, 403, 403)]
