"""The server on a real socket, over a fake engine: who hangs up frees the model; a busy port is told first."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import BaseModelError, MachineError, RecipeError
from finetune.contracts.run import Home
from serving.adapters.registry import AdapterRegistry
from serving.app import create_app
from serving.run import PreparedServer, _load_all, listen, prepared_server, running_server, serve_in_thread
from serving.settings import ServerSettings

QUESTION = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}


def wait_until(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def port(engine, store, settings):
    settings = settings.model_copy(update={"port": 0})
    app = create_app(engine, store, settings=settings)
    config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=1)
    with contextlib.closing(listen(settings)) as listener:
        number = listener.getsockname()[1]
        prepared = PreparedServer(uvicorn.Server(config), listener, f"http://127.0.0.1:{number}", ("base",))
        with serve_in_thread(prepared):
            yield number


def post(port: int, body: dict) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_cancels_its_answer(port, engine, stream):
    engine.hang = True
    connection = post(port, {**QUESTION, "stream": stream})
    wait_until(lambda: engine.generations)
    if stream:
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        response.close()
    assert not engine.generations[0].cancelled
    connection.close()
    wait_until(lambda: engine.generations[0].cancelled)


def test_a_client_that_hangs_up_gives_its_adapter_back(port, engine):
    def call(route: str, body: dict) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", route, json.dumps(body), {"Content-Type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        return status

    assert call("/v1/load_lora_adapter", {"lora_name": "shop", "lora_path": "shop-1"}) == 200
    engine.hang = True
    connection = post(port, {**QUESTION, "model": "shop", "stream": True})
    wait_until(lambda: engine.generations)
    done: list[int] = []
    unloading = threading.Thread(
        target=lambda: done.append(call("/v1/unload_lora_adapter", {"lora_name": "shop"})), daemon=True
    )
    unloading.start()
    time.sleep(0.2)
    assert not done and engine.slots
    connection.close()
    unloading.join(5)
    assert done == [200] and not engine.slots


def test_stopping_closes_the_engine_though_a_stream_hangs(engine, store, settings):
    settings = settings.model_copy(update={"port": 0})
    config = uvicorn.Config(
        create_app(engine, store, settings=settings),
        log_level="critical",
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=1,
    )
    engine.hang = True
    with contextlib.closing(listen(settings)) as listener:
        prepared = PreparedServer(uvicorn.Server(config), listener, "", ("base",))
        with serve_in_thread(prepared):
            connection = post(listener.getsockname()[1], {**QUESTION, "stream": True})
            wait_until(lambda: engine.generations)
        connection.close()
    assert engine.closed and engine.generations[0].cancelled


def test_pieces_of_an_answer_are_sent_at_once(port, monkeypatch):
    made = []
    monkeypatch.setattr(socket.socket, "setsockopt", lambda self, *options: made.append(options))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/livez")
    assert connection.getresponse().status == 200
    connection.close()
    # the client sets it for its own end
    assert made.count((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)) == 2


def test_a_busy_port_is_told_before_the_base_is_loaded(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        server = running_server(tmp_path / "no-base", tmp_path, port=number)
        with pytest.raises(MachineError, match=f"Port {number} .* cannot be used") as caught, server:
            pass
    assert "--port" in caught.value.hint


def test_a_base_that_is_missing_gives_the_port_back(tmp_path: Path):
    settings = ServerSettings(port=0)
    server = prepared_server(tmp_path, tmp_path, settings=settings, quantization=Quantization.NONE)
    with pytest.raises(BaseModelError), server:
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::"])
def test_settings_take_loopback_only(host):
    with pytest.raises(ValueError, match="loopback only"):
        ServerSettings(host=host)
    assert ServerSettings(host="::1").host == "::1"


def test_the_library_s_telemetry_stays_off_whatever_the_environment_says(engine, store, settings, monkeypatch):
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example")
    app = create_app(engine, store, settings=settings)
    switches = ("tracing", "metrics", "logs", "auto_configure")
    assert [app._telemetry[name] for name in switches] == [False] * 4


def test_what_a_start_replaces_is_drained_before_the_first_request(engine, store, root, make_adapter):
    """Else the event loop of the start would end before it, and its memory were never given back."""
    for number in (2, 3):
        make_adapter(root / f"shop-{number}", content=number)
    registry = AdapterRegistry(engine, store, max_adapters=4)
    asyncio.run(_load_all(registry, [("shop", root / f"shop-{number}") for number in (1, 2, 3)]))
    assert [version.state for version in registry.versions] == ["resident"] * 2 and engine.detached == ["slot000000"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("trust.yaml", "require_signature: true\nkey: [release.pem]\n", "did you mean keys"),
        ("served/names.yaml", "names: [{name: shop, group: [internal]}]\n", r"did you mean names\.groups"),
    ],
)
def test_a_policy_with_mistakes_is_told_before_the_base_is_loaded(tmp_path: Path, name: str, text: str, said: str):
    (tmp_path / "served").mkdir()
    (tmp_path / name).write_text(text)
    none = Quantization.NONE
    prepare = prepared_server(
        tmp_path / "no-base", tmp_path, settings=ServerSettings(port=0), quantization=none, home=Home(tmp_path)
    )
    with pytest.raises(RecipeError, match=said), prepare:
        pass
