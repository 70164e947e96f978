"""How the gateway reaches vLLM servers: on loopback in the clear, anywhere else with certificates of both sides."""

import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import httpx

from finetune.contracts.errors import MachineError, UsageError
from finetune.guard.offline import is_local, permit

KEY_VARIABLE = "FINETUNE_REPLICA_KEY"
CA_VARIABLE = "FINETUNE_REPLICA_CA"
CERTIFICATE_VARIABLE = "FINETUNE_REPLICA_CERT"
HINT = "Give it as --replica http://127.0.0.1:8001."
CONNECT_SECONDS = 5.0
# vLLM closes a connection that was idle for 5 s: asked on it at that moment, a server that is well seems to be gone
IDLE_SECONDS = 2.0
HTTPS_PORT = 443


@dataclass(frozen=True)
class ReplicaAccess:
    """key is what the servers were started with as --api-key, "" for none. ca and certificate are PEM files.

    ca signs the servers' certificates; certificate is the gateway's own, with its private key in the same file.
    None: no server is reached by https.
    """

    key: str = ""
    ca: Path | None = None
    certificate: Path | None = None

    @classmethod
    def from_environment(cls) -> "ReplicaAccess":
        """What FINETUNE_REPLICA_KEY, FINETUNE_REPLICA_CA and FINETUNE_REPLICA_CERT say."""
        ca, certificate = (os.environ.get(name) for name in (CA_VARIABLE, CERTIFICATE_VARIABLE))
        return cls(
            os.environ.get(KEY_VARIABLE, ""), Path(ca) if ca else None, Path(certificate) if certificate else None
        )

    def client(self, address: str) -> httpx.AsyncClient:
        """A client of the server at address, http://HOST:PORT or https://HOST:PORT.

        Raises UsageError for an address that is none, or that would be reached over a network without certificates of
        both sides; MachineError for a certificate that cannot be read. permit_host lets it connect.
        """
        parts = _parts(address)
        if parts.scheme == "http" and not is_local(parts.hostname):
            raise UsageError(
                f"--replica {address} would be reached over a network in the clear: vLLM lets anybody who reaches "
                "its port generate and load adapters.",
                f"Put it behind mutual TLS and give https://..., with {CA_VARIABLE} and {CERTIFICATE_VARIABLE} set.",
            )
        context = self._context(address) if parts.scheme == "https" else False
        return httpx.AsyncClient(
            base_url=f"{parts.scheme}://{parts.netloc}",
            headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
            verify=context,
            # neither a proxy nor a netrc of the environment
            trust_env=False,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=IDLE_SECONDS),
        )

    def _context(self, address: str) -> ssl.SSLContext:
        if self.ca is None or self.certificate is None:
            raise UsageError(
                f"--replica {address} needs certificates of both sides.",
                f"Set {CA_VARIABLE} and {CERTIFICATE_VARIABLE} to PEM files; the latter holds the private key too.",
            )
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.load_cert_chain(self.certificate)
        except (OSError, ssl.SSLError) as error:
            raise MachineError(
                f"The certificates for --replica {address} cannot be read: {error}.",
                f"Check the files that {CA_VARIABLE} and {CERTIFICATE_VARIABLE} name.",
            ) from error
        return context


def _parts(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise UsageError(f"--replica {address} is no address.", HINT) from None
    whole = parts.hostname and (port or parts.scheme == "https") and parts.path in ("", "/")
    if parts.scheme not in ("http", "https") or not whole or parts.query or parts.username:
        raise UsageError(f"--replica {address} is no address.", HINT)
    return parts


def permit_host(address: str) -> None:
    """Let this process connect to the server at address, under the addresses that its name has now.

    Called again when it cannot be reached: a cluster gives a server that was moved another address. Raises
    MachineError for a name that nobody knows.
    """
    parts = _parts(address)
    host, port = parts.hostname or "", parts.port or HTTPS_PORT
    if is_local(host):
        return
    permit(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise MachineError(f"The replica's host {host} is not known: {error}.", "Check its name.") from error
    for entry in found:
        permit(str(entry[4][0]), port)
