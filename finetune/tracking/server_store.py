"""A server of MLflow on this machine: asked whether it lives before each delivery, so that a dead one costs no step."""

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetune.contracts.errors import MachineError
from finetune.tracking.place import store_errors

HINT = "Start it, or leave track.server out: the run is then recorded in the home."
LOGIN_HINT = "Give a user who may do this in ~/.mlflow/credentials, or in MLFLOW_TRACKING_USERNAME and _PASSWORD."
AUTHORITY = "MLFLOW_TRACKING_SERVER_CERT_PATH"
AUTHORITY_HINT = f"Let {AUTHORITY} name the file of the authority that signed its certificate."
# By itself mlflow would try for minutes; here a failure is tried again later, and the journal keeps every point
CLIENT_SWITCHES = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "60",
    # stdout is for the result of a command, and with --json for one document
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # a password goes to nobody whose certificate does not hold
    "MLFLOW_TRACKING_INSECURE_TLS": "false",
}
# by mlflow's own words
NO_ENTRY = {
    "CUSTOMER_UNAUTHORIZED": "user or password is missing or wrong",
    "UNAUTHENTICATED": "user or password is missing or wrong",
    "PERMISSION_DENIED": "the user has no right to this experiment or model",
}
LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}
START_WAIT_SECONDS = 5.0
LEAST_WAIT_SECONDS = 0.2


class ServerStore:
    """The StorePlace of a server; address is such as http://127.0.0.1:5000, hint what to do when it does not answer.

    mlflow itself finds user and password, in the environment or in ~/.mlflow/credentials: they pass nothing of ours.
    """

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
            with urllib.request.urlopen(  # noqa: S310
                f"{self.server}/health", timeout=max(wait_seconds, LEAST_WAIT_SECONDS), context=self._trust()
            ):
                return
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            hint = AUTHORITY_HINT if isinstance(reason, ssl.SSLCertVerificationError) else self._hint
            raise MachineError(f"MLflow's server at {self.server} does not answer: {reason}.", hint) from error

    @contextmanager
    def errors(self) -> Iterator[None]:
        """As StorePlace says."""
        with store_errors(f"at {self.server}", self._hint), _entry_refused(f"at {self.server}"):
            yield

    def artifact_location(self, experiment: str) -> str | None:
        """As StorePlace says: the server keeps them."""
        return None

    def _trust(self) -> ssl.SSLContext | None:
        """Whose certificates are good: what mlflow is told, else what this machine trusts; None without TLS."""
        if self.server is None or not self.server.startswith("https:"):
            return None
        authority = os.environ.get(AUTHORITY)
        try:
            return ssl.create_default_context(cafile=authority)
        except OSError as error:
            raise MachineError(
                f"{AUTHORITY} names {authority}, which holds no certificate: {error}.", AUTHORITY_HINT
            ) from error


@contextmanager
def _entry_refused(name: str) -> Iterator[None]:
    """Say what to do about a wrong password or a missing right; name is the store's."""
    try:
        yield
    except Exception as error:
        reason = NO_ENTRY.get(getattr(error, "error_code", ""))
        if reason is None:
            raise
        raise MachineError(f"MLflow's server {name} refused: {reason}.", LOGIN_HINT) from error


def _keep_from_proxies() -> None:
    """Let no proxy of the environment stand between this process and a server on the same machine."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host for host in named.split(",") if host]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join([*hosts, *(LOCAL_HOSTS - set(hosts))])
