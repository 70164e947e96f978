"""The guard refuses and records what would leave, in a process of its own (an audit hook cannot be removed)."""

import subprocess
import sys
from pathlib import Path

import pytest

from finetune.guard.offline import is_local

PROGRAM = """
import socket, sys
from finetune.guard.offline import go_offline
from finetune.contracts.errors import EgressError
record = go_offline()
assert go_offline() is record
try:
    {attempt}
except EgressError as error:
    print("refused", len(record.attempts), error)
else:
    print("allowed", len(record.attempts))
"""
ATTEMPTS = {
    "tcp": "socket.socket().connect(('192.0.2.1', 80))",
    "connect_ex": "socket.socket().connect_ex(('192.0.2.1', 80))",
    "udp": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "name": "socket.getaddrinfo('example.com', 443)",
    "old name": "socket.gethostbyname('example.com')",
    "ipv6": "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
    "urllib": "__import__('urllib.request').request.urlopen('http://192.0.2.1/')",
}


def run(attempt: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(attempt=attempt)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_an_attempt_to_leave_is_refused_and_recorded(attempt):
    assert run(attempt).startswith("refused 1 A connection to ")


def test_loopback_is_allowed():
    listen = "server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname()).close()"
    assert run(listen) == "allowed 0\n"


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (("127.0.0.1", 80), True),
        (("127.9.9.9", 80), True),
        (("::1", 80, 0, 0), True),
        ("/run/some.sock", True),
        (("localhost", 80), True),
        (None, True),
        (("0.0.0.0", 0), True),
        (("10.0.0.1", 80), False),
        (("169.254.169.254", 80), False),
        (("localhost.example.com", 80), False),
        ("example.com", False),
    ],
)
def test_what_counts_as_local(address, local):
    assert is_local(address) is local


def test_a_named_endpoint_may_be_spoken_to_at_its_port_alone():
    # the events that the socket module raises, without its calls
    tries = {
        "('socket.connect', None, ('192.0.2.1', 80))": "allowed 0\n",
        "('socket.connect', None, ('2001:db8::1', 80, 0, 0))": "allowed 0\n",
        "('socket.getaddrinfo', 'teacher.corp', 80, 0, 0, 0)": "allowed 0\n",
        "('socket.connect', None, ('192.0.2.1', 443))": "refused 1",
        "('socket.connect', None, ('192.0.2.2', 80))": "refused 1",
        "('socket.getaddrinfo', 'other.corp', 80, 0, 0, 0)": "refused 1",
        "('socket.sendto', None, ('192.0.2.1', 80))": "refused 1",
    }
    for event, expected in tries.items():
        permits = "; ".join(f"permit('{host}', 80)" for host in ("192.0.2.1", "2001:DB8::1", "Teacher.corp"))
        attempt = f"from finetune.guard.offline import permit; {permits}; sys.audit(*{event})"
        assert run(attempt).startswith(expected), event


def test_only_clients_of_a_teacher_and_of_vllm_servers_permit_an_endpoint():
    root = Path(__file__).parents[4]
    files = [path for package in ("finetune", "data_pipelines", "serving") for path in (root / package).rglob("*.py")]
    callers = [str(path.relative_to(root)) for path in files if "permit(" in path.read_text()]
    named_by_the_user = ["data_pipelines/questions/teacher.py", "serving/engines/replica_access.py"]
    guard = ["finetune/guard/offline.py", "finetune/guard/relay.py"]
    assert sorted(callers) == sorted([*named_by_the_user, *guard])
