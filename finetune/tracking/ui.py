"""MLflow's own pages over a home's store, on loopback, as a child process."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from finetune.contracts.errors import MachineError
from finetune.contracts.io import disk_errors
from finetune.contracts.run import Home
from finetune.guard.switches import offline_environment
from finetune.terminal.output import note
from finetune.terminal.signals import on_signals
from finetune.tracking.home_store import open_client, store_uri
from finetune.tracking.mlflow import replay_all

HOST = "127.0.0.1"
DEFAULT_PORT = 5000
LOG_NAME = "mlflow-ui.log"
START_SECONDS = 90.0
STOP_SECONDS = 10.0
# What MLflow would otherwise do for whoever reaches the port, or let a variable of the shell take away
CLOSED = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS": "false",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
    "MLFLOW_ENABLE_REMOTE_ASSISTANT": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ALLOW_FILE_STORE": "false",
}
# The pages name a CDN and have a worker for telemetry: the reader's browser is told to ask this server alone.
BROWSER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; frame-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Or the server, which leads a session of its own, would outlive a closed terminal.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve_ui(home: Home, port: int = DEFAULT_PORT, *, ready: Callable[[str], None] | None = None) -> int:
    """Run MLflow's pages until they end, Ctrl-C or a signal to end, on port, or on a free one where port is taken.

    ready is called once with the address when they answer; None tells it on stderr. Returns the server's exit code, 0
    after Ctrl-C and its like. Raises MachineError when the store cannot be used or the server does not come up.
    """
    replay_all(home)
    open_client(home)
    place = free_port(port)
    if place != port:
        note(f"The port {port} on {HOST} is taken; {place} is used instead.")
    environment = {**offline_environment(os.environ), **CLOSED}
    log = home.root / LOG_NAME
    with on_signals(ENDING, _end):
        with disk_errors(log), log.open("wb") as stream:
            child = subprocess.Popen(
                command(home, place), env=environment, stdout=stream, stderr=stream, start_new_session=True
            )
        try:
            _wait_until_up(child, place, log=log)
            (ready or _tell)(address(place))
            return child.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            stop(child)


def _end() -> None:
    raise KeyboardInterrupt


def _tell(url: str) -> None:
    note(f"MLflow is at {url} until Ctrl-C.")


def address(port: int) -> str:
    """Where a browser finds the pages."""
    return f"http://{HOST}:{port}"


def command(home: Home, port: int) -> list[str]:
    """The argument list of the server: one worker, loopback under its own name, artifacts from the home's folder."""
    header = shlex.quote(f"Content-Security-Policy:{BROWSER_POLICY}")
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", store_uri(home)),
        *("--default-artifact-root", home.tracking_artifacts.absolute().as_uri()),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
        # any port: the far end of an ssh tunnel may have another
        *("--allowed-hosts", f"{HOST}:*,localhost:*", "--cors-allowed-origins", address(port)),
        *("--uvicorn-opts", f"--header {header}"),
    ]


def free_port(port: int) -> int:
    """port if nothing listens on it, else a free one that the system chooses."""
    for wanted in (port, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise MachineError(f"No port on {HOST} can be used.", "Close some programs, then try again.")


def stop(child: "subprocess.Popen[bytes]") -> None:
    """End the server by its process id, and by force when it does not end within STOP_SECONDS."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # its workers too: it leads a process group of its own
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _wait_until_up(child: "subprocess.Popen[bytes]", port: int, *, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise MachineError(f"MLflow's server ended at once with code {child.returncode}.", f"It says why in {log}.")
        try:
            # a loopback address of our own making
            with urllib.request.urlopen(f"{address(port)}/health", timeout=1):  # noqa: S310
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise MachineError(f"MLflow's server did not answer within {START_SECONDS:.0f} s.", f"Try again; see {log}.")
