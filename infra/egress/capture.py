#!/usr/bin/env python3
"""Run a command in a network namespace with a way out, capture at the other end whatever it sends, keep the evidence.

  infra/egress/capture.py --out DIR COMMAND...   the five planted attempts, then the command
  infra/egress/capture.py --out DIR --self-test  the planted attempts alone

DIR gets report.json, report.txt and the packets as .pcap. Ends with the command's own exit code; with 120 where a
packet was sent, whatever the command said; with 125 where nothing can be proven on this machine.
Needs Linux, tcpdump, iproute2 and bubblewrap, and root or namespaces for users: docs/egress.md says what this sees.
"""

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evidence import Order, Report, SelfTest, digests, judge, machine, now, read_order
from planted import DISCARD_PORT, PLANTED, PLANTED_HERE
from room import NAME_SERVER, Room, clean_room, find, give_up

SHOWN = 20
WAIT_SECONDS = 20.0
LOOK_SECONDS = 0.05
CAP_SYS_ADMIN = 1 << 21
JOB, PEER = "job0", "peer0"
JOB_MAC, PEER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"
# reserved for documentation, all of them
JOB_IPV4, PEER_IPV4 = "198.51.100.2", "198.51.100.1"
JOB_IPV6, PEER_IPV6 = "2001:db8:1::2", "2001:db8:1::1"
# Sent by this program before and after the command, with four bytes that nobody else knows: a capture that holds both
# was awake in between.
MARKER = "198.51.100.99"
MARK = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes.fromhex(sys.argv[1]), "
MARK += f"('{MARKER}', {DISCARD_PORT}))"
# The kernel's own: reports of multicast groups (MLDv2), repeated when an address is new. Everything else counts.
KERNEL = "(ip6 and dst host ff02::16 and ip6[6] == 0 and ip6[40] == 58 and ip6[48] == 143)"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace, held by a process that ends with this one."""

    holder: int

    def entered(self, command: Sequence[str]) -> list[str]:
        """What runs command in it."""
        return [find("nsenter"), f"--target={self.holder}", "--net", "--", *command]

    def call(self, *command: str) -> None:
        """Run an ip command in it; ends where that is refused."""
        done = subprocess.run(self.entered([find("ip"), *command]), check=False, capture_output=True, text=True)
        if done.returncode:
            give_up(f"ip {' '.join(command)}: {done.stderr.strip()}", "No namespace pair; try it as root.")


@contextlib.contextmanager
def held() -> Iterator[Namespace]:
    """A new namespace, gone at the end, however that comes."""
    # it waits for the end of its input: this program's end
    command = [find("unshare"), "--net", "--", "/bin/sh", "-c", "echo held; read -r _"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout and holder.stderr
        if not holder.stdout.readline():
            give_up(f"No network namespace: {holder.stderr.read().decode().strip()}", "Try it as root.")
        try:
            yield Namespace(holder.pid)
        finally:
            holder.stdin.close()


@dataclass(frozen=True, slots=True)
class Pair:
    """The command's namespace, and the peer at the other end of its only way out."""

    job: Namespace
    peer: Namespace

    def inside(self, room: Room, command: Sequence[str]) -> list[str]:
        """What runs command in the room and the job's namespace, as the user who started this."""
        # what was granted for making the pair is not the command's to have
        plain = [] if os.geteuid() == 0 else [find("setpriv"), "--ambient-caps=-all", "--inh-caps=-all", "--"]
        return self.job.entered([*plain, *room.command(command)])


@contextlib.contextmanager
def made_pair() -> Iterator[Pair]:
    """The command's namespace and its peer, to which comes whatever the first sends out, IPv4 and IPv6.

    The peer's hardware address is known beforehand, so the command's kernel need not ask for it.
    """
    with held() as peer, held() as job:
        peer.call("link", "add", PEER, "address", PEER_MAC, "type", "veth", "peer", "name", JOB, "address", JOB_MAC)
        peer.call("link", "set", JOB, "netns", str(job.holder))
        for namespace, interface, address in ((peer, PEER, PEER_IPV4), (job, JOB, JOB_IPV4)):
            # no address of its own making, so nothing to announce
            namespace.call("link", "set", interface, "addrgenmode", "none")
            namespace.call("address", "add", f"{address}/24", "dev", interface)
            namespace.call("link", "set", interface, "up")
            namespace.call("link", "set", "lo", "up")
        job.call("neighbour", "replace", PEER_IPV4, "lladdr", PEER_MAC, "dev", JOB, "nud", "permanent")
        job.call("neighbour", "replace", MARKER, "lladdr", PEER_MAC, "dev", JOB, "nud", "permanent")
        job.call("route", "add", "default", "via", PEER_IPV4)
        if Path("/proc/net/if_inet6").exists():
            job.call("-6", "address", "add", f"{JOB_IPV6}/64", "dev", JOB, "nodad")
            job.call("-6", "neighbour", "replace", PEER_IPV6, "lladdr", PEER_MAC, "dev", JOB, "nud", "permanent")
            job.call("-6", "route", "add", "default", "via", PEER_IPV6, "dev", JOB)
        yield Pair(job, peer)


@dataclass(frozen=True, slots=True)
class Capture:
    """Packets that come in at the peer's end, written to a file as they come; token is eight hexadecimal digits."""

    file: Path
    job: Namespace
    token: str

    @property
    def marks(self) -> str:
        """What the markers match, and nothing else."""
        return f"(dst host {MARKER} and udp dst port {DISCARD_PORT} and udp[8:4] == 0x{self.token})"

    @property
    def sent(self) -> str:
        """What everything matches that the command's side sent."""
        return f"not {KERNEL} and not {self.marks}"

    def packets(self, expression: str) -> list[str]:
        """The packets that match, a line each, as tcpdump prints them; ends where they cannot be read."""
        done = self._read(expression)
        if done.returncode:
            give_up(f"{self.file}: {done.stderr.strip()}", "The capture proves nothing on this machine.")
        # below a packet that it knows nothing of, tcpdump shows its bytes
        return [line for line in done.stdout.splitlines() if not line[:1].isspace()]

    def mark(self) -> None:
        """Send a packet from the command's namespace, and see it arrive; ends where it does not."""
        before, deadline = self._num_marks(), time.monotonic() + WAIT_SECONDS
        while self._num_marks() == before:
            if time.monotonic() > deadline:
                give_up("A packet that was sent was not captured.", "The capture proves nothing on this machine.")
            subprocess.run(self.job.entered([sys.executable, "-c", MARK, self.token]), check=True)
            time.sleep(LOOK_SECONDS)

    def _num_marks(self) -> int:
        # while packets come in, the last one may be half written
        return len(self._read(self.marks).stdout.splitlines())

    def _read(self, expression: str) -> "subprocess.CompletedProcess[str]":
        command = [find("tcpdump"), "-nn", "-tttt", "-r", str(self.file), expression]
        return subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")


@contextlib.contextmanager
def capturing(pair: Pair, file: Path) -> Iterator[Capture]:
    """A capture that is awake at the start and at the end."""
    command = [
        *(find("tcpdump"), "-i", PEER, "-Q", "in", "-s", "0", "-U", "--immediate-mode"),
        *("-Z", "root", "-w", str(file)),
    ]
    with subprocess.Popen(pair.peer.entered(command), stderr=subprocess.DEVNULL) as process:
        capture = Capture(file, pair.job, secrets.token_hex(4))
        try:
            capture.mark()
            yield capture
            capture.mark()
        finally:
            process.terminate()


def main() -> int:
    order = read_order(__doc__ or "")
    become_able()
    with clean_room() as room, made_pair() as pair:
        tested = self_test(room, pair, file=order.folder / "planted.pcap")
        return observe(room, pair, order=order, tested=tested) if order.command else 0


def become_able() -> None:
    """Start again in a user namespace where this user may make networks; returns where that is not needed."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if int(status["CapEff"], 16) & CAP_SYS_ADMIN:
        return
    able = [find("unshare"), "--user", "--map-current-user", "--keep-caps", "--net", "--"]
    tried = subprocess.run([*able, "/bin/true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        give_up(f"No namespace for this user: {tried.stderr.strip()}", "Run it as root.")
    os.execv(able[0], [*able, sys.executable, *sys.argv])  # noqa: S606 - no shell is wanted


def self_test(room: Room, pair: Pair, *, file: Path) -> SelfTest:
    """See that each planted attempt is caught; ends where one is not."""
    command = pair.inside(room, [sys.executable, str(PLANTED_HERE)])
    with capturing(pair, file) as capture:
        done = subprocess.run(command, check=False, env=room.environment, stdout=subprocess.PIPE)
    caught = {
        name: bool(capture.packets(f"{capture.sent} and dst port {one.port} and dst host {one.address or NAME_SERVER}"))
        for name, one in PLANTED.items()
    }
    return judge(done.stdout, caught)


def observe(room: Room, pair: Pair, *, order: Order, tested: SelfTest) -> int:
    """Run the command and write the report; what to end with."""
    file, started = order.folder / "command.pcap", now()
    command = pair.inside(room, order.command)
    with capturing(pair, file) as capture:
        done = subprocess.run(command, check=False, env=room.environment, stdin=subprocess.DEVNULL)
    sent = capture.packets(capture.sent)
    return Report(
        instrument="tcpdump, at the other end of the only way out of a network namespace",
        command=order.command,
        environment=room.environment,
        exit_code=done.returncode,
        started=started,
        ended=now(),
        attempts=[{"packet": line} for line in sent],
        attempt_lines=[*sent[:SHOWN], *([f"and {len(sent) - SHOWN} more"] if len(sent) > SHOWN else [])],
        figures={
            "markers": len(capture.packets(capture.marks)),
            "kernel's_own": len(capture.packets(KERNEL)),
        },
        self_test=tested,
        files=digests(order.folder / "planted.pcap", file),
        machine=machine("tcpdump", "ip", "bwrap"),
    ).write(order.folder)


if __name__ == "__main__":
    sys.exit(main())
