"""A real server and real training runs on one card, which here is the memory of the machine, and kills of either."""

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.run import Home
from serving.run import listen
from serving.settings import ServerSettings

pytestmark = pytest.mark.slow
LONG = ("base.quantization=none", "train.preflight=false", "train.max_steps=2000", "train.save_every_steps=2000")


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Site:
    """A home with its base, its dataset and one port."""

    def __init__(self, home: Home, base: Path, recipe: Path, port: int) -> None:
        self.home = home
        self.port = port
        self._base = base
        self._recipe = recipe
        self._log = home.root.parent / "log.txt"

    @contextlib.contextmanager
    def running(self, *words: str, out: int | None = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
        """A command of the home, killed at the end."""
        command = [sys.executable, "-m", "finetune", *words, "--home", str(self.home.root)]
        with (
            self._log.open("a") as log,
            subprocess.Popen(command, stdout=out, stderr=log, text=True) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def serving(self) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        return self.running("serve", "start", str(self._base), "--port", str(self.port), "--quantization", "none")

    def training(self, *settings: str) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        words = [word for setting in settings for word in ("--set", setting)]
        return self.running("train", str(self._recipe), *words)

    def get(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and document; status 0 when nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = None if body is None else json.dumps(body)
            connection.request("POST" if body else "GET", path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except OSError:
            return 0, {}
        finally:
            connection.close()

    def ask(self, model: str) -> tuple[int, dict[str, Any]]:
        return self.get("/v1/completions", {"model": model, "prompt": "def add", "max_tokens": 8, "temperature": 0})

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def is_away(self) -> bool:
        return self.get("/readyz")[0] == 503

    def steps(self) -> int:
        """Steps that all runs together have told of."""
        return sum(path.read_text().count('"train/loss"') for path in self.home.runs.glob("*/tracking.jsonl"))

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
def site(tiny_base: Path, adapters: Path, unit: Any, tmp_path: Path) -> Site:
    """One adapter, good, is in the home."""
    shutil.copytree(adapters / "good", tmp_path / "home" / "adapters" / "good")
    dataset = unit.save_dataset(tmp_path / "dataset", unit.mixed_examples(4))
    recipe = unit.write_tiny_recipe(tmp_path, tiny_base, dataset)
    with contextlib.closing(listen(ServerSettings(port=0))) as free:
        port = free.getsockname()[1]
    return Site(Home(tmp_path / "home"), tiny_base, recipe, port)


def test_server_and_training_share_a_card_through_crashes_of_either(site):
    with site.serving() as server:
        wait_until(site.is_ready)
        assert site.get("/v1/adapters/alias", {"alias": "shop", "adapter": "good"})[0] == 200
        expected = answer_of(site.ask("shop"))

        # a run that is killed: the server comes back
        with site.training(*LONG) as run:
            trains(site, run)
            assert site.is_away() and site.get("/livez")[0] == 200
            status, document = site.ask("shop")
            assert status == 503 and "finetune train tiny" in document["error"]["message"]
            run.kill()
        wait_until(site.is_ready, 30)
        assert answer_of(site.ask("shop")) == expected

        # a server that is killed while a run has the card: the run goes on, and the next server waits for its end
        with site.training(*LONG) as run:
            trains(site, run)
            assert site.is_away()
            server.kill()
            server.wait()
            with site.serving() as second:
                wait_until(site.is_away)
                trains(site, run)
                assert site.ask("shop")[0] == 503 and second.poll() is None
                run.send_signal(signal.SIGINT)
                assert run.wait(60) == 130
                wait_until(site.is_ready, 60)
                assert answer_of(site.ask("shop")) == expected


def trains(site: Site, run: subprocess.Popen[str]) -> None:
    """Wait until the run has taken a step more."""
    before = site.steps()
    wait_until(lambda: site.steps() > before or run.poll() is not None)
    assert run.poll() is None, site.log()


def answer_of(reply: tuple[int, dict[str, Any]]) -> object:
    status, document = reply
    return status, document["system_fingerprint"], [choice["text"] for choice in document["choices"]]
