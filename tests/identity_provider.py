"""A small identity provider: it signs tokens, and tells over HTTP on loopback what its keys are."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

AUDIENCE = "finetune"
ALGORITHMS = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def make_key(algorithm: str, *, bits: int = 2048):
    """A private key."""
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def public_jwk(key, algorithm: str, **members: object) -> dict[str, object]:
    """What a key set says of a key."""
    return {**ALGORITHMS[algorithm].to_jwk(key.public_key(), as_dict=True), **members}


class IdentityProvider:
    """Signs with the keys in private, by id, and publishes published. what bends what it answers; asked counts."""

    def __init__(self, url: str) -> None:
        self.issuer = url
        self.private = {"one": ("ES256", make_key("ES256"))}
        self.published: dict[str, object] = {}
        self.publish("one")
        self.asked: list[str] = []
        self.bent: dict[str, tuple[int, bytes]] = {}
        self.described: dict[str, object] = {"issuer": url, "jwks_uri": f"{url}/keys"}

    def publish(self, *key_ids: str) -> None:
        """Tell of these keys and no other."""
        keys = [public_jwk(self.private[one][1], self.private[one][0], kid=one, use="sig") for one in key_ids]
        self.published = {"keys": keys}

    def token(self, key_id: str = "one", *, headers: dict[str, object] | None = None, **claims: object) -> str:
        """A good token of sub ada, but for what is given; a claim that is None is left out."""
        now = int(time.time())
        good = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600, **claims}
        algorithm, key = self.private[key_id]
        body = {name: value for name, value in good.items() if value is not None}
        return jwt.encode(body, key, algorithm=algorithm, headers={"kid": key_id, **(headers or {})})

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body for a path."""
        self.asked.append(path)
        if path in self.bent:
            return self.bent[path]
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps(self.described).encode()
        return (200, json.dumps(self.published).encode()) if path == "/keys" else (404, b"")


def make_certificate(folder: Path) -> Path:
    """A PEM file with a certificate of 127.0.0.1 that signs itself, and its private key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "provider.pem"
    path.write_bytes(built.public_bytes(Encoding.PEM) + secret)
    return path


@contextmanager
def running_provider(certificate: Path | None = None) -> Iterator[IdentityProvider]:
    """One that answers while the block runs, by TLS where it has a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = provider.answer(self.path)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/keys")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate:
        scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    provider = IdentityProvider(f"{scheme}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
