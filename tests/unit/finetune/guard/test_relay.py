"""From a network of its own a process reaches the endpoints that it named, by their names, and nothing beside them."""

import os
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest

from tests.unit.finetune.guard.jailed import run, start

INSIDE = """
def enter_with(*endpoints):
    enter(JailMode.NAMESPACE, Needs(endpoints=tuple(Endpoint(*one) for one in endpoints)))

def said(host, port, question=b"who"):
    try:
        with socket.create_connection((host, port), timeout=10) as one:
            one.sendall(question)
            one.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: one.recv(65536), b"")).decode()
    except OSError as error:
        return type(error).__name__
"""
# A stand-in for the machine: a network with an address that is not loopback, and two servers at it.
MACHINE = """
import threading
from finetune.guard.namespace import leave_network
leave_network(["10.9.8.7"])

def answer(name, family, host, port):
    listener = socket.create_server((host, port), family=family)
    def serve():
        while True:
            one, _ = listener.accept()
            one.sendall(name + b" heard " + one.recv(100))
            one.close()
    threading.Thread(target=serve, daemon=True).start()

answer(b"teacher", socket.AF_INET, "10.9.8.7", 4443)
answer(b"other", socket.AF_INET, "10.9.8.7", 4444)
inside = subprocess.run([sys.executable, "-c", sys.argv[1]], capture_output=True, text=True)
print(inside.stdout, inside.stderr, end="")
"""


def everything(connection):
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture
def echo():
    """The port of a server on the loopback outside that sends back what it got, once the asker has done asking."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            one, _ = listener.accept()
            with one:
                if (got := everything(one)) == b"stop":
                    return
                one.sendall(got)

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    yield port
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall(b"stop")
    thread.join()
    listener.close()


def test_the_named_endpoint_answers_and_no_other(echo):
    with socket.create_server(("127.0.0.1", 0)) as unnamed:
        other = unnamed.getsockname()[1]
        code = f"enter_with(('localhost', {echo}, ('::1', '127.0.0.1')))\n"
        code += f"print(said('localhost', {echo}), said('127.0.0.1', {echo}), said('127.0.0.1', {other}))"
        assert run(INSIDE + code).stdout == "who who ConnectionRefusedError\n"


def test_a_large_answer_comes_whole(echo):
    code = f"enter_with(('127.0.0.1', {echo}, ('127.0.0.1',)))\n"
    code += f"print(len(said('127.0.0.1', {echo}, b'x' * 5_000_000)))"
    assert run(INSIDE + code).stdout == "5000000\n"


def test_a_child_that_is_not_python_reaches_it_too(echo):
    code = f"enter_with(('127.0.0.1', {echo}, ('127.0.0.1',)))\n"
    code += f"print(subprocess.run(['bash', '-c', 'exec 3<>/dev/tcp/127.0.0.1/{echo}']).returncode)"
    assert run(INSIDE + code).stdout == "0\n"


def test_a_host_elsewhere_is_reached_by_its_name_at_its_port():
    # the inner process is a command line of its own on that machine
    inner = "from tests.unit.finetune.guard.jailed import ENTER; exec(ENTER)\n" + INSIDE
    named = [("teacher.corp", 4443), ("10.9.8.7", 4443), ("10.9.8.7", 4444), ("10.9.8.8", 4443)]
    inner += "from finetune.guard.offline import go_offline, permit; go_offline()\n"
    inner += f"enter_with(('teacher.corp', 4443, ('10.9.8.7',))); [permit(*one) for one in {named}]\n"
    inner += f"print([said(*one) for one in {named}], *holding_layers())"
    done = run(MACHINE, inner)
    answers = ["teacher heard who", "teacher heard who", "ConnectionRefusedError", "OSError"]
    assert done.stdout == f"{answers} network namespace audit hook\n "


def test_where_nobody_answers_the_connection_breaks():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = f"enter_with(('127.0.0.1', {port}, ('127.0.0.1',)))\nprint(repr(said('127.0.0.1', {port})))"
    assert run(INSIDE + code).stdout in ("'ConnectionResetError'\n", "''\n")


def test_the_relay_ends_with_the_process_and_with_nothing_else(echo):
    """It lets the terminal's signals pass, which the work may answer slowly."""
    code = f"""
enter_with(('127.0.0.1', {echo}, ('127.0.0.1',)))
(relay,) = open("/proc/self/task/%d/children" % os.getpid()).read().split()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    os.kill(int(relay), number)
print(said('127.0.0.1', {echo}), relay, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run(INSIDE + code)
    answer, relay = done.stdout.split()
    assert (answer, done.returncode) == ("who", -signal.SIGKILL)
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{relay}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{relay}")


def test_the_relay_keeps_nothing_open_and_cannot_be_traced_from_inside(echo, tmp_path):
    code = f"""
file = open({str(tmp_path / "lock")!r}, "w")
enter_with(('127.0.0.1', {echo}, ('127.0.0.1',)))
(relay,) = open("/proc/self/task/%d/children" % os.getpid()).read().split()
try:
    print(os.readlink(f"/proc/{{relay}}/ns/net"), flush=True)
except PermissionError:
    print(relay, flush=True)
    sys.stdin.read()
"""
    with start(INSIDE + code) as process:
        relay = process.stdout.readline().strip()
        kept = set()
        for one in os.listdir(f"/proc/{relay}/fd"):
            with suppress(FileNotFoundError):  # it is starting, and closes what it need not keep
                kept.add(os.readlink(f"/proc/{relay}/fd/{one}").split(":")[0])
        process.communicate("")
    assert "/dev/null" in kept and kept <= {"/dev/null", "socket", "anon_inode"}


def test_an_endpoint_that_cannot_be_reached_from_inside_is_said_before_anything_is_entered():
    before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    before += ['mount -t tmpfs none /etc && exec "$@"', "sh"]  # no /etc/hosts
    endpoint = "Endpoint('teacher.corp', 443, ('10.9.8.7',))"
    told = run(f"enter(JailMode.NAMESPACE, Needs(endpoints=({endpoint},)))", before=before).stderr
    assert "cannot hold here: [Errno 2] No such file or directory: '/etc/hosts'" in told
