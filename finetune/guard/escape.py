"""Five ways out of a process, each of them tried, and what became of it: the program behind `finetune doctor egress`.

Run as `python -m finetune.guard.escape [ADDRESS PORT]`; prints a JSON list. Nothing answers at the addresses that are
reserved for documentation, so what counts is whether a packet left: an error at once means that none did.
"""

import ctypes
import errno
import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from finetune.contracts.errors import EgressError
from finetune.guard.layers import holding_layers
from finetune.guard.offline import go_offline

ADDRESSES = ("192.0.2.1", "2001:db8::1")
NAME = "example.com"
PORT = 443
CHILD_SECONDS = 20.0
# the resolver's own patience, and how long an answer may take that comes from no network
RESOLVER = {"RES_OPTIONS": "attempts:1 timeout:2"}
AT_ONCE_SECONDS = 1.0
DENIED = frozenset({errno.EPERM, errno.EACCES})
UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
# a program without our hook: what its connect came to
CHILD = (
    "import socket, sys\n"
    "family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
    "try:\n"
    "    client = socket.socket(family, socket.SOCK_STREAM)\n"
    "    client.setblocking(False)\n"
    "    print(client.connect_ex((sys.argv[1], int(sys.argv[2]))))\n"
    "except OSError as error:\n"
    "    print(error.errno)\n"
)


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt: by which way, where to, whether it was held, and what was seen."""

    way: str
    target: str
    held: bool
    seen: str


def try_all(named: tuple[str, int] | None = None) -> list[Try]:
    """Try the five ways to the addresses for documentation, and to one that is named, with its port."""
    places = [*((address, PORT) for address in ADDRESSES), *([named] if named else [])]
    tries = [
        _tried(way, attempt, address, port)
        for way, attempt in (("TCP", _tcp), ("UDP", _udp), ("C library", _c_library), ("child process", _child))
        for address, port in places
    ]
    return [*tries, _name()]


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET or AF_INET6. Raises ValueError for what is no address."""
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


def _tried(way: str, attempt: Callable[[str, int], int], address: str, port: int) -> Try:
    target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        code = attempt(address, port)
    except EgressError:
        return Try(way, target, True, "refused by the audit hook")
    except OSError as error:
        code = error.errno or 0
    return Try(way, target, code in DENIED | UNREACHABLE, _words(code))


def _words(code: int) -> str:
    if code in (0, errno.EINPROGRESS):
        return "a packet left"
    kind = "denied" if code in DENIED else "unreachable" if code in UNREACHABLE else "not held"
    return f"{kind}: {os.strerror(code)}"


def _tcp(address: str, port: int) -> int:
    with socket.socket(family_of(address), socket.SOCK_STREAM) as client:
        client.setblocking(False)
        return client.connect_ex((address, port))


def _udp(address: str, port: int) -> int:
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as client:
        client.sendto(b"finetune doctor", (address, port))
    return 0


def _c_library(address: str, port: int) -> int:
    """The same call past Python's socket module, where no audit event is raised."""
    library = ctypes.CDLL(None, use_errno=True)
    family, place = family_of(address), ipaddress.ip_address(address).packed
    packed = struct.pack("=H", family) + struct.pack("!H", port)
    packed += place + bytes(8) if family is socket.AF_INET else bytes(4) + place + bytes(4)
    handle = library.socket(int(family), socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
    if handle < 0:
        return ctypes.get_errno()
    try:
        return 0 if library.connect(handle, packed, len(packed)) == 0 else ctypes.get_errno()
    finally:
        os.close(handle)


def _child(address: str, port: int) -> int:
    command = [sys.executable, "-I", "-S", "-c", CHILD, address, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS, check=True)
    return int(done.stdout)


def _name() -> Try:
    started = time.monotonic()
    try:
        socket.getaddrinfo(NAME, PORT)
    except EgressError:
        return Try("DNS", NAME, True, "refused by the audit hook")
    except socket.gaierror as error:
        late = time.monotonic() - started > AT_ONCE_SECONDS
        # a server that knows no such name has answered, and one that is waited for was asked
        held = error.errno in (socket.EAI_AGAIN, socket.EAI_SYSTEM) and not late
        return Try("DNS", NAME, held, f"unreachable: {error.strerror}" if held else "a server was asked")
    except OSError as error:
        return Try("DNS", NAME, error.errno in DENIED | UNREACHABLE, _words(error.errno or 0))
    return Try("DNS", NAME, False, "a server answered")


def main(arguments: Sequence[str]) -> None:
    """Try all ways as a job would be tempted to, and print what was seen.

    The audit hook would hide what holds below it, so it is installed only where nothing does.
    """
    os.environ.update(RESOLVER)
    if not holding_layers():
        go_offline()
    named = (arguments[0], int(arguments[1])) if arguments else None
    sys.stdout.write(json.dumps([asdict(one) for one in try_all(named)]))


if __name__ == "__main__":
    main(sys.argv[1:])
