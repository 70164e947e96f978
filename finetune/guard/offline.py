"""One call at the start of every process: libraries are told to stay offline, a connection out is refused."""

import ipaddress
import os
import socket
import sys
from dataclasses import dataclass, field

from finetune.contracts.errors import EgressError

# Each keeps a library from telemetry, update checks or hub look-ups; the audit hook below holds when one does not.
SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TRACKIO_DISABLE": "1",
    "WANDB_MODE": "disabled",
    "GIT_TERMINAL_PROMPT": "0",
    "OTEL_SDK_DISABLED": "true",
    "TOKENIZERS_PARALLELISM": "false",
}
WATCHED_EVENTS = frozenset(
    {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}
)
LOCAL_NAMES = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost", "testserver"})


@dataclass
class EgressRecord:
    """Attempts to leave that were refused in this process, as "event address"."""

    attempts: list[str] = field(default_factory=list)


RECORD = EgressRecord()
_STATE = {"installed": False}
# (host or address, port) of endpoints that the user named to be spoken to
_PERMITTED: set[tuple[str, int]] = set()


def go_offline() -> EgressRecord:
    """Set the switches and refuse every Python connection that is not loopback; calling it again changes nothing.

    The hook sees calls through Python's socket module; what a C library sends on its own is found by the system-call
    trace in tests/e2e. Returns the record of refused attempts.
    """
    os.environ.update(SWITCHES)
    if not _STATE["installed"]:
        _STATE["installed"] = True
        sys.addaudithook(_refuse_egress)
    return RECORD


def is_watched() -> bool:
    """Whether the audit hook is installed in this process; nothing can remove one."""
    return _STATE["installed"]


def permit(host: str, port: int) -> None:
    """Let this process look up and connect to one name or address at one port, which the user named for it.

    The teacher of `finetune data build` is the only such endpoint; whoever permits one has checked its address.
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
    RECORD.attempts.append(f"{event} {address}")
    raise EgressError(
        f"A connection to {address} was refused: nothing may leave this machine.",
        "This is a defect of a library or of this project; report it with --debug.",
    )


def _is_permitted(event: str, address: object) -> bool:
    if event == "socket.connect":
        return isinstance(address, tuple) and (str(address[0]).split("%")[0].lower(), address[1]) in _PERMITTED
    return event == "socket.getaddrinfo" and any(str(address).lower() == host for host, _ in _PERMITTED)
