"""The way from a network of its own to the addresses that the user named, and to nothing else.

A socket belongs to the network that it was made in, whoever holds it. So a child that stays outside is handed the
sockets that listen inside, each at an address and port that the user named; what comes in there it carries to that
address and port outside. It looks at no byte, so TLS and its names hold from end to end, and it takes no orders.
"""

import ctypes
import os
import signal
import socket
from collections.abc import Sequence

from finetune.guard.endpoint import Endpoint
from finetune.guard.offline import permit

_PR_SET_PDEATHSIG = 1
_READY = b"+"


class Relay:
    """A child outside that waits for its listeners. Make it before this process leaves the network."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._channel, theirs = socket.socketpair()
        parent = os.getpid()
        if os.fork() == 0:
            try:
                _serve(endpoints, theirs, parent=parent)
            finally:
                os._exit(1)
        theirs.close()

    def carry(self) -> None:
        """Listen at each endpoint's addresses here, and let the child answer. Call it once, inside.

        Raises OSError when an endpoint has no address that can be listened at.
        """
        with self._channel:
            for endpoint in self._endpoints:
                listeners = _listeners(endpoint)
                socket.send_fds(self._channel, [_READY], [one.fileno() for one in listeners])
                self._channel.recv(1)
                for one in listeners:
                    one.close()


def _listeners(endpoint: Endpoint) -> list[socket.socket]:
    made: list[socket.socket] = []
    failures: list[OSError] = []
    for address in endpoint.addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            made.append(socket.create_server((address, endpoint.port), family=family))
        except OSError as error:  # such as ::1 where there is no IPv6
            failures.append(error)
    if not made:
        raise failures[0] if failures else OSError(f"{endpoint.host} has no address")
    return made


def _serve(endpoints: Sequence[Endpoint], channel: socket.socket, *, parent: int) -> None:
    """The whole life of the child. It ends with its parent, and with nothing else that a terminal or a shell sends."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    _close_others(channel.fileno())
    listeners: list[tuple[socket.socket, Endpoint]] = []
    for endpoint in endpoints:
        _, handles, _, _ = socket.recv_fds(channel, len(_READY), len(endpoint.addresses))
        if not handles:
            return  # the parent went no further
        channel.send(_READY)
        listeners += [(socket.socket(fileno=handle), endpoint) for handle in handles]
        for address in endpoint.addresses:
            permit(address, endpoint.port)
    # the child alone needs an event loop
    from finetune.guard.carrying import carry

    carry(listeners)


def _close_others(kept: int) -> None:
    """Let go of what the parent has open: a pipe that its reader sees the end of, a terminal."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nothing, handle)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
