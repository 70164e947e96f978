"""A system-call filter under which no internet socket can be made, for this process and all that it starts.

A handful of BPF instructions, so that neither a library nor a program has to be installed: seccomp(2).
"""

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
# all threads of the process, not the calling one alone
_SECCOMP_FILTER_FLAG_TSYNC = 1
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000  # the lower half is the errno that the caller gets
_LOAD, _EQUALS, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
# offsets in struct seccomp_data: the call's number, the architecture, the lower half of the first argument
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_IO_URING_SETUP = 425
# numbers from here are calls of the x32 ABI, which has a socket() of its own
_X32 = 0x40000000


@dataclass(frozen=True, slots=True)
class _Machine:
    audit_number: int
    socket_call: int
    seccomp_call: int


_MACHINES = {
    "x86_64": _Machine(audit_number=0xC000003E, socket_call=41, seccomp_call=317),
    "aarch64": _Machine(audit_number=0xC00000B7, socket_call=198, seccomp_call=277),
}


def is_supported() -> bool:
    """Whether a filter is written for this processor; whether the kernel takes it is seen by installing it."""
    return platform.machine() in _MACHINES


def deny_internet_sockets() -> None:
    """Refuse, for good: sockets of any family but unix and netlink, io_uring, and calls of another ABI.

    socket() then fails with EAFNOSUPPORT, as in a kernel without internet; loopback goes with it. No program started
    from here gains rights by its set-user-id bit. Raises OSError when the kernel does not take the filter.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    machine = _MACHINES[platform.machine()]
    code = _program(machine)
    text = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, and where they are
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(text))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        _raise("no_new_privs")
    if libc.syscall(machine.seccomp_call, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, program) != 0:
        _raise("seccomp")


def _program(machine: _Machine) -> bytes:
    """Each line is (operation, value, next if true, next if false), with names for the three endings."""
    lines: list[tuple[int, int, str, str]] = [
        (_LOAD, _ARCHITECTURE, "", ""),
        (_EQUALS, machine.audit_number, "", "other ABI"),
        (_LOAD, _NUMBER, "", ""),
        (_AT_LEAST, _X32, "other ABI", ""),
        (_EQUALS, _IO_URING_SETUP, "other ABI", ""),
        (_EQUALS, machine.socket_call, "", "allowed"),
        (_LOAD, _FIRST_ARGUMENT, "", ""),
        (_EQUALS, socket.AF_UNIX, "allowed", ""),
        (_EQUALS, socket.AF_NETLINK, "allowed", "internet"),
    ]
    endings = {"allowed": _ALLOW, "internet": _REFUSE | errno.EAFNOSUPPORT, "other ABI": _REFUSE | errno.ENOSYS}
    return _assembled(lines, endings)


def _assembled(lines: Sequence[tuple[int, int, str, str]], endings: dict[str, int]) -> bytes:
    places = {name: len(lines) + number for number, name in enumerate(endings)}
    code = b""
    for at, (operation, value, if_true, if_false) in enumerate(lines):
        # a jump counts the instructions that it skips; no name is the next one
        true, false = (places.get(name, at + 1) - at - 1 for name in (if_true, if_false))
        code += struct.pack("=HBBI", operation, true, false, value)
    return code + b"".join(struct.pack("=HBBI", _RETURN, 0, 0, value) for value in endings.values())


def _raise(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")
