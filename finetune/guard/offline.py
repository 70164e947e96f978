"""One call at the start of every process: libraries are told to stay offline, a connection out is refused."""

import ipaddress
import os
import socket
import sys
from dataclasses import dataclass, field

from finetune.contracts.errors import EgressError
from finetune.guard.record import Attempt, join_journal, note_attempt
from finetune.guard.switches import TOKENS, offline_environment

WATCHED_EVENTS = frozenset(
    {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}
)
LOCAL_NAMES = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost", "testserver"})


@dataclass
class EgressRecord:
    """Attempts to leave that were refused in this process."""

    attempts: list[Attempt] = field(default_factory=list)


RECORD = EgressRecord()
_STATE = {"installed": False}
# (host or address, port) of endpoints that the user named to be spoken to
_PERMITTED: set[tuple[str, int]] = set()


def go_offline() -> EgressRecord:
    """Set the switches and refuse every Python connection that is not loopback; calling it again changes nothing.

    The hook sees calls through Python's socket module; what a C library sends on its own the jail holds, and
    infra/egress/trace.py finds. Returns the record of this process; record.py has that of all processes of a command.
    """
    for name in TOKENS:
        os.environ.pop(name, None)
    os.environ.update(offline_environment({}))
    if not _STATE["installed"]:
        _STATE["installed"] = True
        join_journal()
        sys.addaudithook(_refuse_egress)
    return RECORD


def is_watched() -> bool:
    """Whether the audit hook is installed in this process; nothing can remove one."""
    return _STATE["installed"]


def permit(host: str, port: int) -> None:
    """Let this process look up and connect to one name or address at one port, which the user named for it.

    Whoever permits one has checked its address; a test lists them.
    """
    _PERMITTED.add((host.lower(), port))


def is_local(address: object) -> bool:
    """Whether a socket address stays here: a path (unix socket), loopback, or an unspecified host to bind."""
    host = address[0] if isinstance(address, tuple) and address else address
    if host is None or isinstance(host, bytes) or (isinstance(host, str) and host.startswith(("/", "\0"))):
        return True
    name = str(host).split("%")[0].rstrip(".").lower()
    if name in LOCAL_NAMES or name == socket.gethostname().lower():
        return True
    try:
        return ipaddress.ip_address(name).is_loopback or ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False


def _refuse_egress(event: str, arguments: tuple[object, ...]) -> None:
    if event not in WATCHED_EVENTS:
        return
    # socket events pass (socket, address); look-ups pass the host first
    address = arguments[1] if event in ("socket.connect", "socket.sendto", "socket.sendmsg") else arguments[0]
    if is_local(address) or _is_permitted(event, address):
        return
    RECORD.attempts.append(note_attempt(event, address, sys._getframe(1)))
    raise EgressError(
        f"A connection to {address} was refused: nothing may leave this machine.",
        "This is a defect of a library or of this project; report it with --debug.",
    )


def _is_permitted(event: str, address: object) -> bool:
    if event == "socket.connect":
        return isinstance(address, tuple) and (str(address[0]).split("%")[0].lower(), address[1]) in _PERMITTED
    return event == "socket.getaddrinfo" and any(str(address).lower() == host for host, _ in _PERMITTED)
