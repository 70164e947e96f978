"""A network of this process's own, in which there is loopback and nothing else: namespaces(7), without a program.

The process stays the one that the user started, so signals, exit code, terminal, files and locks are as before. Its
network namespace lies in a user namespace of its own, in which every id is what it was: nothing in it, root included,
has a right over the network of the machine, and so nothing can go back there.
"""

import ctypes
import fcntl
import ipaddress
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_MS_RDONLY, _MS_BIND, _MS_REC, _MS_SLAVE = 1, 1 << 12, 1 << 14, 1 << 19
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
_IFF_UP = 1
_LOOPBACK = b"lo"
_HOSTS = Path("/etc/hosts")
# the C library asks these for names by a unix socket, and they would ask the network for it
_RESOLVERS = tuple(map(Path, ("/run/systemd/resolve", "/run/nscd", "/run/avahi-daemon")))


def leave_network(addresses: Sequence[str] = (), names: Mapping[str, Sequence[str]] = {}) -> None:
    """Move this process, which has one thread, to a network of its own with loopback up; there is no way back.

    addresses are given to loopback besides its own, names are known there with their addresses; services that look
    names up for others are out of sight. Raises OSError where the system does not allow it; what was done by then stays
    done, so see `why_not` first.
    """
    _in_own_namespaces(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWNS)
    _raise_loopback()
    for number, address in enumerate(addresses):
        _add_address(address, number)
    _mount("none", Path("/"), _MS_REC | _MS_SLAVE)
    for folder in _RESOLVERS:
        if folder.is_dir():
            _mount("none", folder, _MS_RDONLY, kind=b"tmpfs")
    if names:
        _name_hosts(names)


def why_not(addresses: Sequence[str] = (), names: Mapping[str, Sequence[str]] = {}) -> str:
    """What stands in the way of `leave_network` here; "" when nothing does. Tried in a child, which ends."""
    try:
        if len(os.listdir("/proc/self/task")) > 1:
            return "this process has several threads already"
    except OSError:
        return "there is no /proc"
    return tried_in_child(partial(leave_network, addresses, names))


def tried_in_child(attempt: Callable[[], None]) -> str:
    """The error of an attempt made in a child process, which ends with it; "" for none."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attempt()
            os.write(writing, b"\n")
        except BaseException as error:
            os.write(writing, str(error).encode()[:1000])
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said.strip() or ("" if said else "a child that tried it was killed")


def _in_own_namespaces(flags: int) -> None:
    """Unshare; the ids are mapped by a child left outside, which alone may map more than its own."""
    waiting, going = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.close(going)
            os._exit(0 if not os.read(waiting, 1) else _map_ids(parent))
        finally:
            os._exit(1)
    os.close(waiting)
    try:
        _called("unshare", lambda libc: libc.unshare(flags))
        os.write(going, b"\n")
    finally:
        os.close(going)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise PermissionError("the ids of a user namespace cannot be mapped")


def _map_ids(process: int) -> int:
    """Map ids as they are: all of them as root, else the user's own. Returns 0, as an exit status."""
    folder = Path(f"/proc/{process}")
    if os.geteuid() == 0:
        for name in ("uid_map", "gid_map"):
            extents = [line.split() for line in Path(f"/proc/self/{name}").read_text().splitlines()]
            (folder / name).write_text("".join(f"{inside} {inside} {count}\n" for inside, _, count in extents))
    else:
        (folder / "uid_map").write_text(f"{os.geteuid()} {os.geteuid()} 1\n")
        # asked for by the kernel before a user may map a group
        (folder / "setgroups").write_text("deny")
        (folder / "gid_map").write_text(f"{os.getegid()} {os.getegid()} 1\n")
    return 0


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", _LOOPBACK, 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
        try:
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", _LOOPBACK, flags | _IFF_UP))
        except PermissionError as error:  # AppArmor gives a user namespace, and no right in it
            raise PermissionError(error.errno, "a network namespace can be had, but not set up") from error


def _add_address(address: str, number: int) -> None:
    """Give loopback an address by itself, with nothing around it."""
    one = ipaddress.ip_address(address)
    family = socket.AF_INET if one.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as control:
        if one.version == 6:
            place = struct.pack("16sIi", one.packed, 128, socket.if_nametoindex(_LOOPBACK.decode()))
            fcntl.ioctl(control, _SIOCSIFADDR, place)
            return
        # an IPv4 address more than the first is an alias, by a name of its own
        for request, value in ((_SIOCSIFADDR, one.packed), (_SIOCSIFNETMASK, b"\xff" * 4)):
            alias = _LOOPBACK + f":{number}".encode()
            fcntl.ioctl(control, request, struct.pack("16sHH4s8x", alias, socket.AF_INET, 0, value))


def _name_hosts(names: Mapping[str, Sequence[str]]) -> None:
    """Let names be known by /etc/hosts, in a private view of it."""
    lines = [f"{address} {name}\n" for name, found in names.items() for address in found]
    with tempfile.NamedTemporaryFile("w", prefix="finetune-hosts-") as file:
        file.write("".join(lines) + _HOSTS.read_text(encoding="utf-8", errors="replace"))
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        _mount(file.name, _HOSTS, _MS_BIND)


def _mount(source: str, place: Path, flags: int, *, kind: bytes | None = None) -> None:
    _called("mount", lambda libc: libc.mount(source.encode(), bytes(place), kind, flags, None))


def _called(name: str, call: Callable[[ctypes.CDLL], int]) -> None:
    """Raise OSError where a call of the C library fails."""
    if call(ctypes.CDLL(None, use_errno=True)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
