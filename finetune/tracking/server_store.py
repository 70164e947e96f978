"""A server of MLflow on this machine: asked whether it lives before each delivery, so that a dead one costs no step."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetune.contracts.errors import MachineError
from finetune.tracking.place import store_errors

HINT = "Start it, or leave track.server out: the run is then recorded in the home."
# By itself mlflow would try for minutes; here a failure is tried again later, and the journal keeps every point
CLIENT_SWITCHES = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "60",
    # stdout is for the result of a command, and with --json for one document
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}
START_WAIT_SECONDS = 5.0
LEAST_WAIT_SECONDS = 0.2


class ServerStore:
    """The StorePlace of a server; address is such as http://127.0.0.1:5000, hint what to do when it does not answer."""

    def __init__(self, address: str, *, hint: str = HINT) -> None:
        self.server: str | None = address.rstrip("/")
        self._hint = hint
        _keep_from_proxies()

    def client(self) -> Any:
        """As StorePlace says."""
        self.check(START_WAIT_SECONDS)
        os.environ.update(CLIENT_SWITCHES)
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.server, registry_uri=self.server)

    def check(self, wait_seconds: float) -> None:
        """As StorePlace says."""
        try:
            # an address on this machine: the recipe takes no other
            with urllib.request.urlopen(f"{self.server}/health", timeout=max(wait_seconds, LEAST_WAIT_SECONDS)):  # noqa: S310
                return
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise MachineError(f"MLflow's server at {self.server} does not answer: {reason}.", self._hint) from error

    @contextmanager
    def errors(self) -> Iterator[None]:
        """As StorePlace says."""
        with store_errors(f"at {self.server}", self._hint):
            yield

    def artifact_location(self, experiment: str) -> str | None:
        """As StorePlace says: the server keeps them."""
        return None


def _keep_from_proxies() -> None:
    """Let no proxy of the environment stand between this process and a server on the same machine."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host for host in named.split(",") if host]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join([*hosts, *(LOCAL_HOSTS - set(hosts))])
