"""A server that asks for certificates is reached with the gateway's own, and by nobody without one."""

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.engines.replica import Replica, ReplicaGone
from serving.engines.replica_access import ReplicaAccess
from tests.e2e.fake_vllm import BASE_NAME
from tests.e2e.gateways import FAKE, wait_until

OPENSSL = shutil.which("openssl") or ""
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not OPENSSL, reason="openssl makes the certificates")]
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(*words: object) -> None:
    subprocess.run([OPENSSL, *map(str, words)], check=True, capture_output=True)


def make_certificates(folder: Path) -> Path:
    """An authority, and server.pem and gateway.pem that it signed, each with its key."""
    folder.mkdir()
    key, authority = folder / "ca.key", folder / "ca.pem"
    signs = ("-subj", "/CN=ca", "-addext", "keyUsage=keyCertSign")
    openssl("req", "-x509", *NEW_KEY, "-keyout", key, "-out", authority, *signs)
    for name in ("server", "gateway"):
        request, own, signed, extra = (folder / f"{name}.{end}" for end in ("csr", "key", "crt", "ext"))
        extra.write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("req", *NEW_KEY, "-keyout", own, "-out", request, "-subj", f"/CN={name}")
        by = ("-CA", authority, "-CAkey", key, "-CAcreateserial", "-extfile", extra)
        openssl("x509", "-req", "-in", request, *by, "-out", signed)
        (folder / f"{name}.pem").write_text(signed.read_text() + own.read_text())
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its address, and the folder of certificates."""
    certificates = make_certificates(tmp_path_factory.mktemp("tls") / "ours")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, str(FAKE), str(port), str(certificates)]) as process:
        try:
            wait_until(lambda: listens(port))
            yield f"https://127.0.0.1:{port}", certificates
        finally:
            process.kill()


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def base_name(address: str, access: ReplicaAccess) -> str:
    async def ask() -> str:
        replica = Replica(address, access)
        try:
            await replica.refresh()
        finally:
            await replica.close()
        return replica.base_name

    return asyncio.run(ask())


def test_it_is_reached_with_certificates_of_both_sides(server: tuple[str, Path]):
    address, folder = server
    assert base_name(address, ReplicaAccess(ca=folder / "ca.pem", certificate=folder / "gateway.pem")) == BASE_NAME


def test_it_is_not_with_those_of_another_authority(server: tuple[str, Path], tmp_path: Path):
    address, folder = server
    other = make_certificates(tmp_path / "other")
    for ca, certificate in ((folder, other), (other, folder)):
        with pytest.raises(ReplicaGone):
            base_name(address, ReplicaAccess(ca=ca / "ca.pem", certificate=certificate / "gateway.pem"))
