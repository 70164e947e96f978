"""The two instruments of infra/egress: they catch what is planted, let be what stays here, and say so by exit codes."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from .egress import ATTEMPTS, CAPTURE, INSTRUMENTS, NO_INSTRUMENT, TRACE, instrument, report

FIVE = ["curl", "C library", "UDP", "DNS", "child process"]
BOTH = pytest.mark.parametrize("program", [TRACE, CAPTURE], ids=["trace", "capture"])
# what stays here: TCP and UDP on loopback, socket pairs, a unix socket; then the environment, and an exit code
QUIET = """
import json, os, socket, sys
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).connect(("::1", 9))
one, other = socket.socketpair()
one.send(b"x")
socket.socket(socket.AF_UNIX).connect_ex("/nowhere")
interfaces = [name for _, name in socket.if_nameindex()]
network = os.readlink("/proc/self/ns/net")
print(json.dumps({"environment": dict(os.environ), "interfaces": interfaces, "network": network}))
sys.exit(7)
"""
# by IPv6, to a resolver on this machine, past Python's audit hook, by what a trace or a namespace does not hold
LOUD = """
import contextlib, ctypes, socket, struct
from contextlib import suppress
from finetune.guard.offline import go_offline
library = ctypes.CDLL(None)
with suppress(OSError):
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).connect(("2001:db8::1", 9))
with suppress(OSError):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 53))
with suppress(OSError):
    text = b'{sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("203.0.113.9")}'
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendmsg([text], [], 0, ("192.0.2.11", 9))
with suppress(OSError):
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
library.syscall(425, 4, ctypes.create_string_buffer(120))
go_offline()
address = struct.pack("=H2s4s8x", socket.AF_INET, b"\\0\\x09", bytes([192, 0, 2, 12]))
library.sendto(library.socket(2, 2, 0), b"x", 1, 0, address, len(address))
"""
SENDING = """
import socket
for kind, to in (2, "192.0.2.13"), (10, "2001:db8::2"), (2, "198.51.100.99"):
    socket.socket(kind, socket.SOCK_DGRAM).sendto(b"mark", (to, 9))
frame = bytes.fromhex("020000000001" * 2 + "88b5") + b"a frame of a kind that nobody uses"
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("job0", 0))
raw.send(frame)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("strace", "tcpdump", "ip", "bwrap"))),
        reason="needs the instruments: apt-get install strace tcpdump iproute2 bubblewrap",
    ),
]


@BOTH
def test_a_quiet_command_is_found_quiet_and_keeps_its_exit_code(program, tmp_path, monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    done = instrument(program, tmp_path, [sys.executable, "-c", QUIET])
    found = report(tmp_path)
    assert (done.returncode, found["attempts"], found["exit_code"]) == (7, [], 7), done.stderr
    seen = json.loads(done.stdout)
    assert seen["environment"].keys() - {"PWD", "SHLVL", "_", "LC_CTYPE"} == {"PATH", "HOME", "LANG"}
    assert seen["network"] != str(Path("/proc/self/ns/net").readlink())
    assert seen["interfaces"] == found["self_test"]["interfaces"]
    assert ("job0" in seen["interfaces"]) == (program == CAPTURE)
    assert found["self_test"]["caught"] == FIVE
    for name, value in found["files"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == value
    assert "no attempt to leave" in (tmp_path / "report.txt").read_text()
    assert "no attempt to leave" in done.stderr


def test_the_trace_counts_loopback_and_keeps_nothing_of_what_is_sent(tmp_path):
    code = "import socket; socket.socket(2, 2).sendto(b'a line of private code', ('127.0.0.1', 9))"
    assert instrument(TRACE, tmp_path, [sys.executable, "-c", code]).returncode == 0
    assert report(tmp_path)["figures"]["to_loopback"] == {"127.0.0.1": 1}
    assert "private" not in (tmp_path / "command.trace").read_text()


def test_the_trace_names_program_call_and_place_of_each_attempt(tmp_path):
    done = instrument(TRACE, tmp_path, [sys.executable, "-c", LOUD])
    found = report(tmp_path)
    assert (done.returncode, found["exit_code"]) == (ATTEMPTS, 0), done.stderr
    assert [(one["call"], one["to"]) for one in found["attempts"]] == [
        ("connect", "2001:db8::1 port 9"),
        ("sendto", "127.0.0.1 port 53"),
        ("sendmsg", "192.0.2.11 port 9"),
        ("socket", "a socket of kind AF_VSOCK"),
        ("io_uring_setup", "io_uring, of whose operations a trace sees nothing"),
        ("sendto", "192.0.2.12 port 9"),
    ]
    assert {one["program"] for one in found["attempts"]} == {Path(sys.executable).name}


def test_the_capture_shows_each_packet_of_a_command(tmp_path):
    """Also those that feign to be a marker, or to come from the peer."""
    done = instrument(CAPTURE, tmp_path, [sys.executable, "-c", SENDING])
    packets = [one["packet"] for one in report(tmp_path)["attempts"]]
    assert done.returncode == ATTEMPTS, done.stderr
    for packet, place in zip(packets, ("192.0.2.13.9", "2001:db8::2.9", "198.51.100.99.9", "0x88b5"), strict=True):
        assert place in packet


@BOTH
def test_an_instrument_that_misses_a_planted_attempt_runs_no_command(program, tmp_path):
    blind = Path(shutil.copytree(INSTRUMENTS, tmp_path / "egress"))
    for file, seen, missed in (
        ("calls.py", '"sendto", ', ""),
        ("capture.py", 'f"not {KERNEL}', 'f"not udp and not {KERNEL}'),
    ):
        text = (blind / file).read_text()
        assert seen in text
        (blind / file).write_text(text.replace(seen, missed))
    done = instrument(blind / program.name, tmp_path / "evidence", ["touch", str(tmp_path / "it-ran")])
    assert done.returncode == NO_INSTRUMENT and "not caught: UDP" in done.stderr
    assert not (tmp_path / "it-ran").exists() and not (tmp_path / "evidence" / "report.json").exists()


def test_a_capture_that_sleeps_is_no_evidence_of_silence(tmp_path):
    deaf = Path(shutil.copytree(INSTRUMENTS, tmp_path / "egress"))
    text = (deaf / "capture.py").read_text()
    for seen, put in (('"-i", PEER', '"-i", "lo"'), ("WAIT_SECONDS = 20.0", "WAIT_SECONDS = 1.0")):
        assert seen in text
        text = text.replace(seen, put)
    (deaf / "capture.py").write_text(text)
    done = instrument(deaf / "capture.py", tmp_path / "evidence", ["touch", str(tmp_path / "it-ran")])
    assert done.returncode == NO_INSTRUMENT and "was not captured" in done.stderr
    assert not (tmp_path / "it-ran").exists()


@BOTH
def test_evidence_is_not_overwritten(program, tmp_path):
    (tmp_path / "report.json").write_text("{}")
    done = instrument(program, tmp_path, ["--self-test"])
    assert done.returncode == NO_INSTRUMENT and "holds a report already" in done.stderr
