"""Five attempts to leave, each by another way, that an instrument must catch before it is believed.

Prints one JSON document: what was planted, and the network interfaces that were there. Nothing is reached by any of
them: the addresses are reserved for documentation (RFC 5737).
"""

import contextlib
import ctypes
import json
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DISCARD_PORT = 9
DNS_PORT = 53
# one address for each attempt, so that none is taken for another; DNS goes to the room's name server
BY_CURL, BY_C_LIBRARY, BY_UDP, BY_CHILD = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"
CURL_SECONDS = "0.5"
CHILD = "import socket, sys; s = socket.socket(); s.setblocking(False); s.connect_ex((sys.argv[1], int(sys.argv[2])))"


def curl() -> None:
    """A program that is not ours; Python's own client where curl is missing."""
    program = shutil.which("curl")
    url = f"http://{BY_CURL}:{DISCARD_PORT}/"
    fetch = f"import urllib.request; urllib.request.urlopen({url!r}, timeout={CURL_SECONDS})"
    command = [program, "-sS", "-m", CURL_SECONDS, url] if program else [sys.executable, "-c", fetch]
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL)


def c_library() -> None:
    """connect() of the C library, which Python's audit hooks do not see."""
    library = ctypes.CDLL(None)
    handle = library.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
    port = struct.pack("!H", DISCARD_PORT)
    address = struct.pack("=H2s4s8x", socket.AF_INET, port, socket.inet_aton(BY_C_LIBRARY))
    library.connect(handle, address, len(address))


def udp() -> None:
    """One datagram, without a connection."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        sender.sendto(b"planted", (BY_UDP, DISCARD_PORT))


def dns() -> None:
    """A name that nothing on this machine knows."""
    with contextlib.suppress(OSError):
        socket.getaddrinfo("planted.example", DISCARD_PORT)


def child() -> None:
    """A process in a session of its own."""
    command = [sys.executable, "-c", CHILD, BY_CHILD, str(DISCARD_PORT)]
    subprocess.run(command, check=False, start_new_session=True)


@dataclass(frozen=True, slots=True)
class Planted:
    """An attempt, and the address and port by which an instrument knows it; None is any address."""

    make: Callable[[], None]
    address: str | None
    port: int


PLANTED = {
    "curl": Planted(curl, BY_CURL, DISCARD_PORT),
    "C library": Planted(c_library, BY_C_LIBRARY, DISCARD_PORT),
    "UDP": Planted(udp, BY_UDP, DISCARD_PORT),
    "DNS": Planted(dns, None, DNS_PORT),
    "child process": Planted(child, BY_CHILD, DISCARD_PORT),
}
PLANTED_HERE = Path(__file__)


def main() -> None:
    for one in PLANTED.values():
        one.make()
    interfaces = [name for _, name in socket.if_nameindex()]
    sys.stdout.write(json.dumps({"planted": list(PLANTED), "interfaces": interfaces}))


if __name__ == "__main__":
    main()
