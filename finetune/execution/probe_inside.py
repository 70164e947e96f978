"""Runs in the jail: tries what must not succeed, prints the names of what did. Arguments: a host's port, a host's file.

Plain actions are tried first; when one of them fails this ends badly, so that a jail in which nothing works, and in
which for that reason no attack works either, is not taken for one that holds.
"""

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

MANY = 400


def plain() -> None:
    """What code under test may do."""
    for folder in ("/tmp", os.environ["HOME"], "/dev/shm"):  # noqa: S108
        Path(folder, "plain").write_text("x")
    assert os.waitpid(_fork_exit(), 0)[1] == 0
    assert len(bytearray(32 << 20)) == 32 << 20
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
    assert Path("kept").read_text()


def _fork_exit() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    return child


def connect(host: str, port: int) -> None:
    """Reach a listener."""
    socket.create_connection((host, port), timeout=2).close()


def fork_bomb() -> None:
    """More processes than are allowed: succeeds when as many as MANY live at once."""
    children = []
    try:
        for _ in range(MANY):
            child = os.fork()
            if child == 0:
                os.read(HELD[0], 1)
                os._exit(0)
            children.append(child)
    finally:
        os.write(HELD[1], b"x" * len(children))
        for child in children:
            os.waitpid(child, 0)


def write(path: str) -> None:
    """Create or replace a file."""
    Path(path).write_text("x")


def fill_disk() -> None:
    """More than the disk of the probe has, in several files."""
    for number in range(8):
        Path(f"/tmp/{number}").write_bytes(b"x" * (4 << 20))  # noqa: S108


def capable() -> None:
    """Succeeds with any capability, or where a program with the set-user-id bit would get some."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if int(fields["CapEff"], 16) == 0 and int(fields["CapBnd"], 16) == 0 and fields["NoNewPrivs"].strip() == "1":
        raise PermissionError


def foreign_process() -> None:
    """Succeeds when a process is seen that is not of this jail, which has its own first and this one."""
    if sorted(name for name in os.listdir("/proc") if name.isdigit()) == sorted({"1", str(os.getpid())}):
        raise PermissionError


def main() -> None:
    """Try all; print what succeeded."""
    port, outside = int(sys.argv[1]), sys.argv[2]
    plain()
    attacks: dict[str, Callable[[], object]] = {
        "a connection to the host": lambda: connect("127.0.0.1", port),
        "a connection to the network": lambda: connect("192.0.2.1", 80),
        "a fork bomb": fork_bomb,
        "reading outside": lambda: Path(outside).read_text(),
        "writing outside": lambda: write(outside),
        "writing to the tree": lambda: write("new"),
        "writing to /": lambda: write("/new"),
        "writing to /dev": lambda: write("/dev/new"),
        "writing to /usr": lambda: write("/usr/new"),
        "filling the disk": fill_disk,
        "taking memory": lambda: bytearray(512 << 20),
        "capabilities": capable,
        "a process of the host": foreign_process,
    }
    succeeded = []
    for name, attack in attacks.items():
        try:
            attack()
        except (OSError, MemoryError):
            continue
        succeeded.append(name)
    sys.stdout.write(json.dumps({"succeeded": succeeded}))


HELD = os.pipe()

if __name__ == "__main__":
    main()
