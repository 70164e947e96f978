"""MLflow's webhook for aliases that move: it wakes who follows the registry, and is trusted for nothing else.

What an event says is not read. It is enough that its signature fits: who is woken asks the registry itself, as it does
from time to time without any event, since a lost one is sent no more.
"""

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer

from finetune.contracts.errors import MachineError, UsageError

HOST = "127.0.0.1"
MAX_BODY_BYTES = 1 << 16
# An event that is older was kept by somebody; clocks of one machine do not differ by as much
MAX_AGE_SECONDS = 300.0
READ_SECONDS = 5.0
LEAST_SECRET_LETTERS = 16


def read_secret(path: Path) -> bytes:
    """The secret in a file, without white space around it. Raises UsageError for a file that holds none."""
    hint = "Write the secret of the webhook into it, such as `openssl rand -hex 32` prints."
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"--webhook-secret-file {path} cannot be read: {error.strerror}.", hint) from error
    if len(secret) < LEAST_SECRET_LETTERS:
        raise UsageError(
            f"--webhook-secret-file {path} holds a secret of less than {LEAST_SECRET_LETTERS} letters.", hint
        )
    return secret


@contextmanager
def alias_events(port: int, secret: bytes) -> Iterator[threading.Event]:
    """Listen on a port of loopback while the block runs; the event is set at each delivery that secret signed.

    Raises MachineError when the port is taken.
    """
    woken = threading.Event()
    try:
        server = _Server((HOST, port), _handler(secret, woken))
    except OSError as error:
        raise MachineError(
            f"Port {port} of {HOST} cannot be used: {error.strerror}.", "Choose another --webhook-port."
        ) from error
    threading.Thread(target=server.serve_forever, name="webhook", daemon=True).start()
    try:
        yield woken
    finally:
        server.shutdown()
        server.server_close()


def is_signed(headers: Message, body: bytes, *, secret: bytes, now: float) -> bool:
    """Whether MLflow signed body with secret, not long before now (seconds since 1970).

    The signature is that of Standard Webhooks: HMAC-SHA256 of "id.timestamp.body", after "v1,".
    """
    identity, sent = headers.get("X-MLflow-Delivery-Id", ""), headers.get("X-MLflow-Timestamp", "")
    if not (sent.isascii() and sent.isdigit()) or abs(now - int(sent)) > MAX_AGE_SECONDS:
        return False
    content = b".".join((identity.encode(), sent.encode(), body))
    expected = b"v1," + base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest())
    return hmac.compare_digest(expected, headers.get("X-MLflow-Signature", "").encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # not HTTPServer's, which asks a name server what this machine is called
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


def _handler(secret: bytes, woken: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = READ_SECONDS

        def log_message(self, *what: object) -> None:
            """Nobody reads a log of this."""

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY_BYTES:
                self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            body = self.rfile.read(int(length))
            if not is_signed(self.headers, body, secret=secret, now=time.time()):
                self._answer(HTTPStatus.UNAUTHORIZED)
                return
            woken.set()
            self._answer(HTTPStatus.NO_CONTENT)

        def _answer(self, status: HTTPStatus) -> None:
            self.send_response_only(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler
