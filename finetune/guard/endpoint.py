"""Who may be spoken to from a jail: a host and port that the user named, by addresses that were looked at."""

import socket
import urllib.parse
from dataclasses import dataclass

from finetune.guard.offline import is_local

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and port that the user named, with the addresses of the host, which the caller has checked."""

    host: str
    port: int
    addresses: tuple[str, ...]


def local_endpoint(url: str) -> Endpoint | None:
    """The endpoint that a URL names on this machine; None for one elsewhere, which the audit hook refuses."""
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    if not host or not port or not is_local(host):
        return None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return None
    return Endpoint(host, port, tuple(dict.fromkeys(str(address[0]).split("%")[0] for *_, address in found)))
