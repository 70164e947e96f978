"""Which addresses a gateway speaks to, and how."""

import pytest

from finetune.contracts.errors import MachineError, UsageError
from serving.engines.replica_access import ReplicaAccess


@pytest.mark.parametrize("address", ["http://127.0.0.1:8001", "http://localhost:8001/", "http://[::1]:8001"])
def test_loopback_is_reached_in_the_clear(address):
    client = ReplicaAccess(key="secret").client(address)
    assert client.headers["authorization"] == "Bearer secret" and not client.trust_env


@pytest.mark.parametrize("address", ["http://10.0.0.4:8001", "http://gpu-1.example:8001"])
def test_a_network_is_not(address):
    with pytest.raises(UsageError, match="in the clear"):
        ReplicaAccess(key="secret").client(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8001", "http://127.0.0.1", "ftp://127.0.0.1:1", "http://127.0.0.1:1/v1", "http://a:b:c", ""]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="no address"):
        ReplicaAccess().client(address)


def test_a_network_needs_certificates_of_both_sides(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="certificates of both sides") as caught:
        ReplicaAccess(ca=tmp_path / "ca.pem").client("https://10.0.0.4:8443")
    assert "FINETUNE_REPLICA_CERT" in caught.value.hint
    for name in ("CA", "CERT"):
        (tmp_path / name).write_text("no certificate")
        monkeypatch.setenv(f"FINETUNE_REPLICA_{name}", str(tmp_path / name))
    with pytest.raises(MachineError, match="cannot be read"):
        ReplicaAccess.from_environment().client("https://10.0.0.4:8443")
