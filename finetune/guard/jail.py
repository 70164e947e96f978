"""The jail of a command that reads private code: the process that does the work has no way to the network.

In a network of its own (namespace.py), or where the system forbids that under a filter of system calls (seccomp.py).
The process that the user started goes in itself, as soon as it knows whom the user named and before it loads a library.
Code that nobody has read is run in another jail, finetune/execution, which works in here as well.
"""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from finetune.contracts.errors import MachineError
from finetune.guard.endpoint import Endpoint
from finetune.guard.layers import Layer, holding_layers
from finetune.guard.namespace import leave_network, tried_in_child, why_not
from finetune.guard.relay import Relay
from finetune.guard.seccomp import deny_internet_sockets, is_supported

ALLOW_NAMESPACES = (
    "Allow user namespaces: sysctl -w user.max_user_namespaces=15000, on Ubuntu also "
    "kernel.apparmor_restrict_unprivileged_userns=0; a container must allow unshare and mount."
)
_STATE = {"armed": False}


class JailMode(StrEnum):
    """What `--jail` may say. AUTO takes the strongest that works."""

    AUTO = "auto"
    NAMESPACE = "namespace"
    SECCOMP = "seccomp"
    OFF = "off"


_STRONGEST_FIRST = (JailMode.NAMESPACE, JailMode.SECCOMP)


@dataclass(frozen=True, slots=True)
class Needs:
    """What the work must reach: endpoints that the user named, and why it needs loopback or the network; "" if not."""

    endpoints: tuple[Endpoint, ...] = ()
    loopback: str = ""
    network: str = ""


def arm() -> None:
    """Say that this process belongs to one command line, so that the command may close it off for good."""
    _STATE["armed"] = True


def enter(mode: JailMode, needs: Needs) -> str:
    """Close this process off from the network, for good; returns a notice for the user where less holds, else "".

    Does nothing in a process that is not armed. Raises MachineError where mode asks for what cannot work here.
    """
    if not _STATE["armed"] or mode is JailMode.OFF:
        return ""
    reasons: dict[JailMode, str] = {}
    for one in _STRONGEST_FIRST if mode is JailMode.AUTO else (mode,):
        reasons[one] = missing(one, needs)
        if not reasons[one]:
            _enter(one, needs)
            return ""
        if one is JailMode.NAMESPACE and Layer.NETWORK_NAMESPACE in holding_layers():
            return ""  # whoever started this has seen to it: a container without a network
    if mode is not JailMode.AUTO:
        raise MachineError(f"--jail {mode} cannot hold here: {reasons[mode]}.", _hint(mode, needs))
    listed = "; ".join(f"{one}: {why}" for one, why in reasons.items())
    return f"No jail here, so Python's own calls alone are kept from the network ({listed})."


def missing(mode: JailMode, needs: Needs) -> str:
    """What keeps the namespace or the filter from holding here, tried in a child; "" when nothing does."""
    if needs.network:
        return needs.network
    if mode is JailMode.NAMESPACE:
        return why_not(_addresses(needs.endpoints), _names(needs.endpoints))
    named = [f"{one.host}:{one.port} was named, and there is no TCP under it" for one in needs.endpoints]
    if needs.loopback or named:
        return needs.loopback or named[0]
    return tried_in_child(deny_internet_sockets) if is_supported() else "no filter is written for this processor"


def _enter(mode: JailMode, needs: Needs) -> None:
    if mode is JailMode.NAMESPACE:
        _enter_namespace(needs.endpoints)
        layer = Layer.NETWORK_NAMESPACE
    else:
        deny_internet_sockets()
        layer = Layer.SECCOMP
    # measured before anything is done in it
    if layer not in holding_layers():
        raise MachineError(
            f"The jail does not hold: {layer} was entered and is not seen.", "Report this with --debug; or --jail off."
        )


def _enter_namespace(endpoints: tuple[Endpoint, ...]) -> None:
    relay = Relay(endpoints) if endpoints else None
    leave_network(_addresses(endpoints), _names(endpoints))
    if relay:
        relay.carry()


def _addresses(endpoints: tuple[Endpoint, ...]) -> list[str]:
    """The addresses that loopback has not anyway."""
    named = dict.fromkeys(address for one in endpoints for address in one.addresses)
    return [address for address in named if not _is_there_anyway(address)]


def _is_there_anyway(address: str) -> bool:
    one = ipaddress.ip_address(address)
    return one.is_loopback or one.is_unspecified


def _names(endpoints: tuple[Endpoint, ...]) -> dict[str, tuple[str, ...]]:
    """The hosts that are no addresses and that nobody knows inside."""
    return {
        one.host: one.addresses
        for one in endpoints
        if not all(map(_is_there_anyway, one.addresses)) and not _is_address(one.host)
    }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _hint(mode: JailMode, needs: Needs) -> str:
    if needs.network:
        return "Add --jail off, or let this machine do the work alone."
    if mode is JailMode.NAMESPACE:
        return f"{ALLOW_NAMESPACES} Or take what works here: --jail auto."
    return "Take what works here: --jail auto."
