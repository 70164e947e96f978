"""Which layers keep this process from the network, measured each time: nothing is taken from what a caller says."""

import socket
from enum import StrEnum
from pathlib import Path

from finetune.guard.offline import is_watched

LOOPBACK_INTERFACE = "lo"
FILTERED = "2"  # SECCOMP_MODE_FILTER in /proc/self/status


class Layer(StrEnum):
    """What stands between a process and the network, strongest first."""

    NETWORK_NAMESPACE = "network namespace"
    SECCOMP = "seccomp"
    AUDIT_HOOK = "audit hook"


def holding_layers() -> tuple[Layer, ...]:
    """The layers that hold in this process now, strongest first; empty when nothing does, or this is not Linux.

    NETWORK_NAMESPACE: the kernel knows no interface but loopback here, whoever saw to that. SECCOMP: a filter is
    installed and internet sockets, which are tried, cannot be made. AUDIT_HOOK: Python's own calls are refused.
    """
    measured = {
        Layer.NETWORK_NAMESPACE: interfaces() == {LOOPBACK_INTERFACE},
        Layer.SECCOMP: _is_filtered() and not any(map(_opens, (socket.AF_INET, socket.AF_INET6))),
        Layer.AUDIT_HOOK: is_watched(),
    }
    return tuple(layer for layer, holds in measured.items() if holds)


def interfaces() -> set[str]:
    """Names of the network interfaces of this thread's namespace; empty where the kernel does not list them.

    Not from /sys/class/net, which shows the namespace that /sys was mounted in.
    """
    try:
        lines = Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    return {line.split(":")[0].strip() for line in lines if ":" in line}


def _is_filtered() -> bool:
    try:
        lines = Path("/proc/thread-self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return f"Seccomp:\t{FILTERED}" in lines


def _opens(family: socket.AddressFamily) -> bool:
    # the class of C below socket.socket, which a library may have replaced
    try:
        socket.SocketType(family, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True
