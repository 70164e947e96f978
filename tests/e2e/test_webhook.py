"""MLflow's own webhook, from a real server, moves a name at the endpoint though nobody looks for ten minutes."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from finetune.contracts.adapter_files import read_manifest
from finetune.tracking.ui import free_port
from serving.adapters.store import AdapterStore
from serving.app import create_app
from serving.client import call
from serving.run import PreparedServer, listen, serve_in_thread
from serving.settings import ServerSettings
from tests.e2e.mlflow_server import Server
from tests.unit.serving.conftest import FakeEngine, save_bare_adapter

pytestmark = pytest.mark.slow
SECRET = "a secret of the webhook"
# What the server needs to send a webhook to its own machine, and to know its secret after a restart
ENVIRONMENT = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
}
EVENTS = ["model_version_alias.created", "model_version_alias.deleted"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server", ENVIRONMENT)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An endpoint over an engine that is none; its adapters folder holds shop-1 and shop-2, by their ids."""
    settings = ServerSettings(port=0)
    store = AdapterStore(tmp_path / "adapters", max_rank=settings.max_rank)
    config = uvicorn.Config(create_app(FakeEngine(), store, settings=settings), log_level="warning", access_log=False)
    with contextlib.closing(listen(settings)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with serve_in_thread(PreparedServer(uvicorn.Server(config), listener, address, ("base",))):
            yield address


def served(url: str) -> str | None:
    cards = call(url, "/v1/adapters", expects="data")["data"]
    return cards[0]["adapter_id"] if cards else None


def wait_until_served(url: str, wanted: str | None) -> None:
    deadline = time.monotonic() + 60
    while served(url) != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_moved_alias_is_served_at_once(server: Server, url: str, tmp_path: Path) -> None:
    client = server.client()
    client.create_registered_model("shop")
    run = client.create_run("0").info
    ids = []
    for number in (1, 2):
        folder = save_bare_adapter(tmp_path / f"shop-{number}", content=number)
        ids.append(read_manifest(folder).adapter_id)
        (tmp_path / "adapters").mkdir(exist_ok=True)
        folder.rename(tmp_path / "adapters" / ids[-1])
        client.create_model_version(
            "shop", source=f"{run.artifact_uri}/shop", run_id=run.run_id, tags={"adapter_id": ids[-1]}
        )
    (tmp_path / "secret").write_text(SECRET)
    port = free_port(0)
    # before the first move: the server remembers for a minute that there was no webhook
    client.create_webhook("follow", f"http://127.0.0.1:{port}/", EVENTS, secret=SECRET)
    client.set_registered_model_alias("shop", "champion", "1")
    command = [sys.executable, "-m", "finetune", "serve", "follow", "shop=shop", "--url", url, "--every", "600"]
    command += ["--server", server.address, "--webhook-port", str(port)]
    command += ["--webhook-secret-file", str(tmp_path / "secret"), "--home", str(tmp_path / "home")]
    with subprocess.Popen(command) as process:
        try:
            # the first look; no other is due while this test lasts
            wait_until_served(url, ids[0])
            client.set_registered_model_alias("shop", "champion", "2")
            wait_until_served(url, ids[1])
            client.delete_registered_model_alias("shop", "champion")
            wait_until_served(url, None)
        finally:
            process.terminate()
