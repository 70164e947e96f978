"""Where the keys come from that tokens are signed with: a file, or the identity provider that the user named.

Only what the identity file names is spoken to, directly: no proxy, no redirect, a deadline, a bound on what is read.
"""

import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import JsonValue

from finetune.contracts.errors import PlatformError
from finetune.guard.offline import is_local, permit
from serving.access.identity import IdentityFile, url_parts
from serving.errors import IssuerError

MAX_BYTES = 256 << 10
SILENCE_SECONDS = 5.0
# for a whole answer, however slowly it drips
ANSWER_SECONDS = 10.0
DISCOVERY = "/.well-known/openid-configuration"
PORTS = {"https": 443, "http": 80}


def key_source(file: IdentityFile) -> Callable[[], JsonValue]:
    """What reads the issuer's keys, as a JSON Web Key Set. It blocks. Raises IssuerError without them."""
    if file.jwks_file:
        path = file.jwks_file
        return lambda: _from_file(path)
    return lambda: _document(file.jwks_url or _discovered(file), ca=file.ca_file)


def _from_file(path: Path) -> JsonValue:
    try:
        with path.open("rb") as stream:
            return _parsed(stream.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        raise IssuerError(f"{path} cannot be read: {error.strerror}.") from error


def _discovered(file: IdentityFile) -> str:
    """Where the issuer says that its keys are: at the same host, or the user would not have named it."""
    description = _document(file.issuer.rstrip("/") + DISCOVERY, ca=file.ca_file)
    if not isinstance(description, dict) or description.get("issuer") != file.issuer:
        raise IssuerError(f"{file.issuer} does not describe itself under that name.")
    address = description.get("jwks_uri")
    if not isinstance(address, str) or urlsplit(address)[:2] != urlsplit(file.issuer)[:2]:
        raise IssuerError(f"{file.issuer} keeps its keys at {str(address)[:200]}: name that as jwks_url to allow it.")
    return address


def _document(url: str, *, ca: Path | None) -> JsonValue:
    """GET url, and parse the answer."""
    deadline = time.monotonic() + ANSWER_SECONDS
    content = bytearray()
    try:
        _permit(url)
        verify = ssl.create_default_context(cafile=ca) if url.startswith("https:") else False
        with (
            # neither a proxy nor a netrc of the environment
            httpx.Client(verify=verify, trust_env=False, timeout=SILENCE_SECONDS) as client,
            # a packed answer could be larger than it looks
            client.stream("GET", url, headers={"Accept": "application/json", "Accept-Encoding": "identity"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise IssuerError(f"{url} answers with status {answer.status_code}.")
            for chunk in answer.iter_raw():
                content += chunk
                if len(content) > MAX_BYTES or time.monotonic() > deadline:
                    break
    except (OSError, ValueError, httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
        raise IssuerError(f"{url} cannot be asked: {error}.") from error
    except PlatformError as error:
        raise error if isinstance(error, IssuerError) else IssuerError(f"{url}: {error.message}") from error
    if time.monotonic() > deadline:
        raise IssuerError(f"{url} takes longer than {ANSWER_SECONDS:.0f} seconds.")
    return _parsed(bytes(content), url)


def _permit(url: str) -> None:
    """Let this process connect to the host of url, under the addresses that its name has now."""
    parts = url_parts(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    if is_local(host):
        return
    permit(host, port)
    for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        permit(str(entry[4][0]), port)


def _parsed(content: bytes, place: str) -> JsonValue:
    if len(content) > MAX_BYTES:
        raise IssuerError(f"{place} is larger than {MAX_BYTES} bytes.")
    try:
        found: JsonValue = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise IssuerError(f"{place} is not valid JSON.") from error
    return found
