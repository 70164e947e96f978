"""`finetune demo` on a clone of this project, watched at the system calls: the loop works and nothing leaves."""

import ipaddress
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.contracts.dataset import Task

ROOT = Path(__file__).resolve().parents[2]
CONSOLE_SCRIPT = Path(sys.executable).parent / "finetune"
STRACE = shutil.which("strace")
DEMO_SECONDS = 1500
IPV4 = re.compile(r'sin_addr=inet_addr\("([^"]+)"\)')
IPV6 = re.compile(r'inet_pton\(AF_INET6, "([^"]+)"')

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(STRACE is None, reason="needs strace: apt-get install strace"),
]


def traced(trace: Path, command: list[str], **options) -> subprocess.CompletedProcess:
    """Run command with every connect, send and bind of it and its children written to trace."""
    assert STRACE
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    watch = [STRACE, "-f", "--seccomp-bpf", "-qq", "-s", "256", "-e", calls, "-o", str(trace)]
    options |= {"capture_output": True, "text": True, "timeout": DEMO_SECONDS}
    return subprocess.run([*watch, *command], check=False, **options)


def outside_calls(trace: Path) -> list[str]:
    """Lines of a trace that name an internet address which is not loopback."""
    found = []
    for line in trace.read_text(errors="replace").splitlines():
        for address in IPV4.findall(line) + IPV6.findall(line):
            if not ipaddress.ip_address(address).is_loopback:
                found.append(line)
    return found


PLANTED = {
    "python": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 53))",
    "python, IPv6": "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).connect_ex(('2001:db8::1', 53))",
    "C library, past the audit hook": (
        "import ctypes, struct; from finetune.guard.offline import go_offline; go_offline(); c = ctypes.CDLL(None)\n"
        "a = struct.pack('=HH4s8x', 2, 0x3500, bytes([192, 0, 2, 1]))\n"
        "c.sendto(c.socket(2, 2, 0), b'x', 1, 0, a, len(a))"
    ),
    "child process": (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', "
        "\"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 53))\"])"
    ),
}


@pytest.mark.parametrize("code", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_call_out_is_caught(tmp_path, code):
    traced(tmp_path / "trace", [sys.executable, "-c", code], cwd=ROOT)
    found = outside_calls(tmp_path / "trace")
    assert len(found) == 1 and ("192.0.2.1" in found[0] or "2001:db8::1" in found[0])


def test_loopback_and_unix_sockets_are_not_taken_for_calls_out(tmp_path):
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()).close()\n"
        "a, b = socket.socketpair(); a.send(b'x')\n"
        "socket.socket(socket.AF_UNIX).connect_ex('/nowhere')"
    )
    traced(tmp_path / "trace", [sys.executable, "-c", code])
    assert "127.0.0.1" in (tmp_path / "trace").read_text()
    assert outside_calls(tmp_path / "trace") == []


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo on a fresh clone of this repository: (result document, home, trace, stderr)."""
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / "clone")], check=True)
    command = [str(CONSOLE_SCRIPT), "demo", "--repo", "clone", "--home", "home", "--json"]
    done = traced(folder / "trace", command, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout), folder / "home", folder / "trace", done.stderr


def test_the_demo_connects_to_loopback_alone(demo):
    _, _, trace, _ = demo
    assert "127.0.0.1" in trace.read_text(), "the demo talks to its own server, so the trace must show that"
    assert outside_calls(trace) == []


def test_the_adapter_is_better_on_held_out_bits_per_byte(demo):
    result, _, _, _ = demo
    primary = result["scores"][0]
    assert primary["name"] == "bits per byte"
    assert primary["adapter"] < primary["base"]
    assert primary["high"] < 0 and primary["verdict"] == "better"


def test_every_task_gave_examples_and_the_answers_differ_in_origin(demo):
    result, _, _, _ = demo
    # this repository has no reviews, and no teacher is named
    assert {row["task"] for row in result["dataset"]["counts"]} == set(Task) - {Task.REVIEW_FIX, Task.QA}
    assert result["answers"]["wanted"]
    assert {"base", "adapter", "adapter_model"} <= result["answers"].keys()


def test_the_run_and_its_adapter_are_what_the_commands_show(demo):
    result, home, _, _ = demo
    runs = shown("runs", "list", "--home", str(home))["runs"]
    assert [run["run_id"] for run in runs] == [result["run"]["run_id"]]
    assert result["training"]["last_loss"] < result["training"]["first_loss"]
    assert runs[0]["status"] == "finished" and runs[0]["verdict"] == "better"
    adapters = shown("adapter", "list", "--home", str(home))["adapters"]
    assert adapters[0]["adapter_id"] == result["run"]["adapter_id"]
    assert [score["name"] for score in adapters[0]["scores"]] == [score["name"] for score in result["scores"]]
    assert shown("adapter", "verify", adapters[0]["adapter_id"], "--home", str(home))["valid"]


def test_progress_is_plain_lines_when_piped(demo):
    _, _, _, stderr = demo
    assert "[4/4]" in stderr and "\r" not in stderr and "Traceback" not in stderr


def shown(*arguments: str) -> dict:
    done = subprocess.run([str(CONSOLE_SCRIPT), *arguments, "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
