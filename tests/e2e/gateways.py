"""Stand-ins of vLLM servers in processes of their own, and the gateway over servers at some addresses."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from finetune.contracts.adapter import Quantization
from finetune.contracts.run import Home
from serving.run import Replicas, prepared_server, serve_in_thread
from serving.settings import ServerSettings

FAKE = Path(__file__).with_name("fake_vllm.py")
PROMPT = "def total(cart):"
SECONDS = 30.0


def wait_until(condition: Callable[[], Any], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class FakeServer:
    """A stand-in at a port of its own, which it keeps when it is started again."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, load_seconds: float = 0) -> None:
        environment = {**os.environ, "LOAD_SECONDS": str(load_seconds)}
        self.process = subprocess.Popen([sys.executable, str(FAKE), str(self.port)], env=environment)

    def wait(self) -> None:
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v1/models").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        assert self.process
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def fault(self, **switches: object) -> None:
        httpx.post(f"{self.url}/fault", json=switches)

    @property
    def seen(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/seen").json()

    @property
    def names(self) -> set[str]:
        cards = httpx.get(f"{self.url}/v1/models").json()["data"]
        return {card["id"] for card in cards if card["parent"]}


@contextmanager
def gateway_over(
    base: Path, home: Path, urls: list[str], *, keys: Home | None = None, **settings: Any
) -> Iterator[httpx.Client]:
    replicas = Replicas(base, tuple(urls), home / "replicas")
    prepare = prepared_server(
        replicas,
        home / "adapters",
        settings=ServerSettings(port=0, **settings),
        quantization=Quantization.NONE,
        home=keys,
    )
    with prepare as prepared, serve_in_thread(prepared), httpx.Client(base_url=prepared.url, timeout=60) as client:
        yield client


def point(gateway: httpx.Client, alias: str, adapter: str) -> httpx.Response:
    return gateway.post("/v1/adapters/alias", json={"alias": alias, "adapter": adapter})


def ask(gateway: httpx.Client, model: str, prompt: str = PROMPT, **options: object) -> httpx.Response:
    body = {"model": model, "prompt": prompt, "max_tokens": 16, "temperature": 0, **options}
    return gateway.post("/v1/completions", json=body)


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def streamed(
    gateway: httpx.Client, model: str, prompt: str, num_tokens: int, begun: Callable[[], None]
) -> list[dict[str, Any]]:
    """The documents of a stream; begun is called with each."""
    body = {"model": model, "prompt": prompt, "max_tokens": num_tokens, "temperature": 0, "stream": True}
    documents = []
    with gateway.stream("POST", "/v1/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                documents.append(json.loads(line[6:]))
                begun()
    return documents
