"""infra/mlflow/start.sh: what it refuses to start with, and what the server is told."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.mlflow_site import AS_NOBODY, INFRA, write_secret

SERVER = """#!/bin/sh
env
echo "words: $*"
"""


@pytest.fixture
def told(tmp_path: Path) -> dict[str, str]:
    """Settings that are good; the server is a program that prints what it was given."""
    run = tmp_path / "run"
    run.mkdir(mode=0o750)
    python = tmp_path / "python"
    python.write_text(SERVER)
    python.chmod(0o755)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHON": str(python),
        "MLFLOW_PUBLIC_URL": "https://mlflow.example:8443",
        "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow@database/mlflow",
        "MLFLOW_AUTH_STORE_URI": "postgresql://mlflow@database/users?host=%2Frun",
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://mlflow/artifacts",
        "MLFLOW_ADMIN_PASSWORD_FILE": str(write_secret(tmp_path / "password", "a long password")),
        "MLFLOW_SECRET_KEY_FILE": str(write_secret(tmp_path / "key", "k" * 32)),
        "MLFLOW_SOCKET": str(run / "server.sock"),
    }


def start(told: dict[str, str], *, root: bool = False) -> "subprocess.CompletedProcess[str]":
    command = [*(() if root else AS_NOBODY), INFRA / "start.sh"]
    return subprocess.run(command, env=told, capture_output=True, text=True, check=False)


def test_the_server_is_told_what_protects_it_and_nothing_else_of_the_shell(told: dict[str, str]) -> None:
    told["MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"] = "true"
    told["MLFLOW_ENABLE_REMOTE_ASSISTANT"] = "true"
    told["HTTPS_PROXY"] = "http://proxy.example"
    started = start(told)
    assert started.returncode == 0, started.stderr
    words = started.stdout.splitlines()[-1]
    assert "--app-name basic-auth" in words and "--serve-artifacts" in words
    assert "--allowed-hosts mlflow.example:8443" in words and f"--uds {told['MLFLOW_SOCKET']}" in words
    assert "a long password" not in words and "k" * 32 not in words
    given = dict(line.split("=", 1) for line in started.stdout.splitlines() if "=" in line and line != words)
    assert given["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == given["MLFLOW_ALLOW_FILE_STORE"] == "false"
    assert given["MLFLOW_ENABLE_REMOTE_ASSISTANT"] == given["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert given["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert {"MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "HTTPS_PROXY", "MLFLOW_ADMIN_PASSWORD_FILE"}.isdisjoint(given)
    users = Path(given["MLFLOW_AUTH_CONFIG_PATH"])
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    assert "default_permission = NO_PERMISSIONS" in users.read_text()
    assert "database_uri = postgresql://mlflow@database/users?host=%%2Frun" in users.read_text()


def without(name: str) -> Callable[[dict[str, str]], object]:
    return lambda told: told.pop(name)


def with_(name: str, value: str) -> Callable[[dict[str, str]], object]:
    return lambda told: told.update({name: value})


def secret(name: str, text: str, mode: int = 0o600) -> Callable[[dict[str, str]], object]:
    def change(told: dict[str, str]) -> None:
        Path(told[name]).write_text(text)
        Path(told[name]).chmod(mode)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("MLFLOW_PUBLIC_URL"), "must be the proxy's address"),
        (with_("MLFLOW_PUBLIC_URL", "http://mlflow.example"), "must be the proxy's address"),
        (with_("MLFLOW_PUBLIC_URL", "https://mlflow.example/"), "must end after the name"),
        (without("MLFLOW_BACKEND_STORE_URI"), "must be the address of a PostgreSQL database"),
        (with_("MLFLOW_BACKEND_STORE_URI", "sqlite:///runs.db"), "must be the address of a PostgreSQL database"),
        (with_("MLFLOW_BACKEND_STORE_URI", "/srv/mlruns"), "must be the address of a PostgreSQL database"),
        (with_("MLFLOW_AUTH_STORE_URI", "postgresql://mlflow:word@database/users"), "holds a password"),
        (with_("MLFLOW_ARTIFACTS_DESTINATION", "/srv/artifacts"), "must be a place in an S3 store"),
        (without("MLFLOW_ADMIN_PASSWORD_FILE"), "MLFLOW_ADMIN_PASSWORD_FILE is not set"),
        (secret("MLFLOW_ADMIN_PASSWORD_FILE", ""), "not there or empty"),
        (secret("MLFLOW_ADMIN_PASSWORD_FILE", "short\n"), "12 characters"),
        (secret("MLFLOW_ADMIN_PASSWORD_FILE", "a long password\n", 0o644), "others can read"),
        (without("MLFLOW_SECRET_KEY_FILE"), "MLFLOW_SECRET_KEY_FILE is not set"),
        (secret("MLFLOW_SECRET_KEY_FILE", "short\n"), "32 characters"),
        (lambda told: Path(told["MLFLOW_SOCKET"]).parent.chmod(0o755), "closed to others"),
    ],
)
def test_what_would_leave_a_hole_is_refused(
    told: dict[str, str], change: Callable[[dict[str, str]], object], said: str
) -> None:
    change(told)
    started = start(told)
    assert started.returncode == 3 and said in started.stderr and started.stdout == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be refused")
def test_root_is_refused(told: dict[str, str]) -> None:
    assert "this is root" in start(told, root=True).stderr
