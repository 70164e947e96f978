"""Who is woken by MLflow's webhook: only a delivery that was signed with the secret, and just now."""

import http.client
import socket
import time

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from finetune.cli.main import run
from finetune.contracts.errors import MachineError, UsageError
from finetune.release.alias_events import MAX_BODY_BYTES, alias_events, read_secret
from finetune.tracking.ui import free_port

SECRET = "a secret of the webhook"
BODY = '{"entity": "model_version_alias", "action": "created", "data": {"name": "shop"}}'


def deliver(port: int, body: str = BODY, *, age: float = 0.0, signed: str = BODY, secret: str = SECRET, **more) -> int:
    """The status of a delivery as MLflow makes it; more replaces headers, None leaves one out."""
    sent = str(int(time.time() - age))
    headers = {
        "Content-Type": "application/json",
        "X-MLflow-Delivery-Id": "d-1",
        "X-MLflow-Timestamp": sent,
        "X-MLflow-Signature": _generate_hmac_signature(secret, "d-1", sent, signed),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    kept = {name: value for name, value in headers.items() if value is not None}
    connection.request("POST", "/", body.encode(), kept)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.fixture(scope="module")
def listener():
    port = free_port(0)
    with alias_events(port, SECRET.encode()) as woken:
        yield port, woken


def test_what_mlflow_signs_wakes(listener):
    port, woken = listener
    woken.clear()
    assert deliver(port) == 204 and woken.is_set()


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "another secret"},
        {"body": BODY.replace("shop", "shap")},
        {"X_MLflow_Signature": None},
        {"X_MLflow_Signature": "v1,"},
        {"X_MLflow_Delivery_Id": "d-2"},
        {"X_MLflow_Timestamp": None},
        {"X_MLflow_Timestamp": "soon"},
        {"X_MLflow_Timestamp": "9" * 30},
        {"age": 301.0},
        {"age": -301.0},
    ],
    ids=str,
)
def test_what_is_not_signed_just_now_wakes_nobody(listener, changes):
    port, woken = listener
    woken.clear()
    assert deliver(port, **changes) == 401 and not woken.is_set()


def test_a_body_that_is_too_long_is_not_read(listener):
    port, woken = listener
    woken.clear()
    assert deliver(port, Content_Length=str(MAX_BODY_BYTES + 1)) == 413
    assert deliver(port, Content_Length="-1") == 413
    assert not woken.is_set()


def test_a_client_that_says_nothing_keeps_nobody_waiting(listener):
    port, woken = listener
    woken.clear()
    with socket.create_connection(("127.0.0.1", port)):
        assert deliver(port) == 204 and woken.is_set()


def test_the_port_is_free_again_and_a_taken_one_is_told():
    port = free_port(0)
    taken = alias_events(port, SECRET.encode())
    for _ in range(2):
        with (
            alias_events(port, SECRET.encode()),
            pytest.raises(MachineError, match=f"Port {port} .* cannot be used"),
            taken,
        ):
            pass
        taken = alias_events(port, SECRET.encode())


def test_a_secret_is_read_without_the_end_of_its_line(tmp_path):
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    assert read_secret(tmp_path / "secret") == SECRET.encode()


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("short\n", "less than 16 letters")])
def test_a_file_without_a_secret_is_told(tmp_path, content, words):
    if content is not None:
        (tmp_path / "secret").write_text(content)
    with pytest.raises(UsageError, match=words):
        read_secret(tmp_path / "secret")


@pytest.mark.parametrize(
    "options",
    [["--webhook-port", "9"], ["--webhook-port", "9", "--webhook-secret-file", "s"], ["--webhook-secret-file", "s"]],
)
def test_a_webhook_needs_a_server_and_a_secret(home, options, capsys):
    from .conftest import MODEL, register, save_adapter

    register(home, save_adapter(home, 1.0))
    assert run(["serve", "follow", f"shop={MODEL}", "--home", str(home.root), *options]) == 2
    assert "go together" in capsys.readouterr().err
