"""In each jail each way out is tried, by Python, a C library and a child; the same ways are open without one."""

import errno
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.unit.finetune.guard.jailed import ENTER, FORBIDDEN, ROOT, run

# Tried against a listener of the test on the loopback outside, whose port comes as the first word.
ATTEMPTS = """
port = int(sys.argv[1])

def c_library():
    import ctypes, struct
    libc = ctypes.CDLL(None)
    handle = libc.socket(2, 1, 0)
    address = struct.pack("=H", 2) + struct.pack("!H", port) + bytes([127, 0, 0, 1]) + bytes(8)
    return handle >= 0 and libc.connect(handle, address, len(address)) == 0

def child():
    command = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]
    return subprocess.run(command, capture_output=True).returncode == 0

def tcp():
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    return True

def tcp6():
    with socket.socket(socket.AF_INET6) as one:
        one.settimeout(5)
        one.connect(("::ffff:127.0.0.1", port))
    return True

def udp():
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.settimeout(5)
        one.connect(("127.0.0.1", port))
        one.send(b"ask")
        return one.recv(10) == b"answer"

def tried(attempt):
    try:
        return attempt()
    except OSError:
        return False

print(json.dumps({one.__name__: tried(one) for one in (tcp, tcp6, udp, c_library, child)}))
"""
WAYS = {"tcp", "tcp6", "udp", "c_library", "child"}


@pytest.fixture(scope="module")
def outside():
    """The port of a TCP and a UDP socket on loopback that answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(type=socket.SOCK_DGRAM) as mailbox:
        port = listener.getsockname()[1]
        mailbox.bind(("127.0.0.1", port))

        def answer():
            while True:
                asked, sender = mailbox.recvfrom(10)
                if asked == b"stop":
                    return
                mailbox.sendto(b"answer", sender)

        thread = threading.Thread(target=answer)
        thread.start()
        yield port
        mailbox.sendto(b"stop", ("127.0.0.1", port))
        thread.join()


def ways_out(mode, port, **options):
    done = run(f"enter(JailMode.{mode}, Needs())\n{ATTEMPTS}", str(port), **options)
    assert done.returncode == 0, done.stderr
    return {name for name, got_out in json.loads(done.stdout).items() if got_out}


def test_without_a_jail_each_way_is_open(outside):
    assert ways_out("OFF", outside) == WAYS


@pytest.mark.parametrize("mode", ["NAMESPACE", "SECCOMP"])
def test_no_way_leads_out_of_a_jail(outside, mode):
    assert ways_out(mode, outside) == set()


@pytest.mark.parametrize("mode", ["NAMESPACE", "SECCOMP"])
def test_what_goes_far_away_fails_at_once(mode):
    code = """
    def failure(attempt):
        try:
            attempt()
        except OSError as error:
            return type(error).__name__
    datagram = lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53))
    print(failure(lambda: socket.getaddrinfo("example.com", 443)), failure(datagram))
    """.replace("\n    ", "\n")
    began = time.monotonic()
    assert run(f"enter(JailMode.{mode}, Needs())\n{code}").stdout == "gaierror OSError\n"
    assert time.monotonic() - began < 5


def test_what_holds_is_measured():
    code = "print([str(layer) for layer in holding_layers()])"
    assert run(f"enter(JailMode.NAMESPACE, Needs())\n{code}").stdout == "['network namespace']\n"
    assert run(f"enter(JailMode.SECCOMP, Needs())\n{code}").stdout == "['seccomp']\n"
    hooked = f"from finetune.guard.offline import go_offline; go_offline(); enter(JailMode.AUTO, Needs())\n{code}"
    assert run(hooked).stdout == "['network namespace', 'audit hook']\n"


@pytest.mark.parametrize(("mode", "step"), [("NAMESPACE", "leave_network"), ("SECCOMP", "deny_internet_sockets")])
def test_a_jail_that_does_not_hold_is_not_worked_in(mode, step):
    # tried in a child it works, and then does nothing here
    code = f"from finetune.guard import jail\njail.{step} = lambda *_: None\nenter(JailMode.{mode}, Needs())"
    done = run(code)
    assert done.returncode == 1 and "The jail does not hold" in done.stderr


def test_a_process_that_is_not_a_command_line_is_left_alone():
    code = "from finetune.guard import jail; jail._STATE['armed'] = False\nbefore = holding_layers()\n"
    assert run(f"{code}enter(JailMode.AUTO, Needs()); print(holding_layers() == before)").stdout == "True\n"


def test_loopback_is_there_in_a_namespace():
    code = """
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    listener = socket.create_server((host, 0), family=family)
    socket.create_connection(listener.getsockname()[:2]).close()
print("heard")
"""
    assert run(f"enter(JailMode.NAMESPACE, Needs()){code}").stdout == "heard\n"


def test_under_the_filter_unix_sockets_work_and_io_uring_does_not():
    code = """
import ctypes
enter(JailMode.SECCOMP, Needs())
left, right = socket.socketpair()
left.send(b"heard")
libc = ctypes.CDLL(None, use_errno=True)
made = libc.syscall(425, 1, ctypes.create_string_buffer(120))
print(right.recv(5).decode(), made, os.strerror(ctypes.get_errno()))
"""
    assert run(code).stdout == "heard -1 Function not implemented\n"


# push rbx; mov eax, 359 (socket); mov ebx, 2 (AF_INET); mov ecx, 1 (SOCK_STREAM); xor edx, edx; int 0x80; pop rbx; ret
SOCKET_OF_32_BITS = "53 b867010000 bb02000000 b901000000 31d2 cd80 5b c3"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the other ABIs are those of x86-64")
def test_a_call_of_another_abi_is_no_way_around_the_filter():
    code = f"""
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex({SOCKET_OF_32_BITS!r}))
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
outside = call()
enter(JailMode.SECCOMP, Needs())
x32 = ctypes.CDLL(None).syscall(0x40000029, 2, 1, 0)
print(outside, call(), x32)
"""
    done = run(code)
    if done.returncode < 0 or int(done.stdout.split()[0]) < 0:
        pytest.skip("this kernel runs no 32-bit programs")
    assert done.stdout.split()[1:] == [str(-errno.ENOSYS), "-1"]


def test_code_under_test_is_not_run_where_its_jail_cannot_be_attacked():
    code = "from finetune.execution.jail import Jail; enter(JailMode.SECCOMP, Needs()); Jail.open()"
    assert "No code under test is run here" in run(code).stderr


def test_the_filter_holds_for_threads_that_were_there_before():
    code = """
import threading
go, made = threading.Event(), []
def work():
    go.wait(10)
    try:
        made.append(socket.socket())
    except OSError:
        pass
thread = threading.Thread(target=work)
thread.start()
print(enter(JailMode.AUTO, Needs()))
go.set()
thread.join()
print(made, *holding_layers())
"""
    assert run(code).stdout == "\n[] seccomp\n"


def test_where_namespaces_are_forbidden_the_filter_is_taken(outside):
    assert ways_out("AUTO", outside, before=FORBIDDEN) == set()
    code = "print(repr(enter(JailMode.AUTO, Needs())), *holding_layers())"
    assert run(code, before=FORBIDDEN).stdout == "'' seccomp\n"
    refused = run("enter(JailMode.NAMESPACE, Needs())", before=FORBIDDEN).stderr
    assert "--jail namespace cannot hold here: [Errno 28] unshare: No space left on device" in refused
    assert "sysctl -w user.max_user_namespaces" in refused


def test_where_there_is_no_network_anyway_nothing_is_missing():
    before = [FORBIDDEN[0], "--net", *FORBIDDEN[1:]]
    for mode in ("AUTO", "NAMESPACE"):
        code = f"print(repr(enter(JailMode.{mode}, Needs(loopback='ranks'))), *holding_layers())"
        assert run(code, before=before).stdout == "'' network namespace\n"


def test_what_the_filter_cannot_give_is_said():
    tcp = "Needs(loopback='the ranks speak over TCP')"
    told = run(f"print(enter(JailMode.AUTO, {tcp}), *holding_layers())", before=FORBIDDEN).stdout
    assert told.startswith("No jail here, so Python's own calls alone") and "seccomp: the ranks speak over TCP" in told
    assert "--jail seccomp cannot hold here: the ranks speak" in run(f"enter(JailMode.SECCOMP, {tcp})").stderr
    elsewhere = "Needs(network='slurm does the work')"
    assert "--jail namespace cannot hold here: slurm" in run(f"enter(JailMode.NAMESPACE, {elsewhere})").stderr
    assert run(f"print(enter(JailMode.AUTO, {elsewhere}))").stdout.count("slurm does the work") == 2


@pytest.mark.parametrize("mode", ["NAMESPACE", "SECCOMP"])
def test_signals_exit_code_and_streams_are_those_of_the_process_itself(mode):
    echo = f"enter(JailMode.{mode}, Needs()); print(sys.stdin.read()[::-1]); sys.exit(7)"
    done = run(echo, input="abc")
    assert (done.returncode, done.stdout) == (7, "cba\n")
    killed = run(f"enter(JailMode.{mode}, Needs()); os.kill(os.getpid(), signal.SIGTERM)")
    assert killed.returncode == -signal.SIGTERM


def test_locks_hold_between_inside_and_outside(tmp_path):
    import fcntl

    code = f"""
import fcntl
file = open({str(tmp_path / "lock")!r}, "w")
enter(JailMode.NAMESPACE, Needs())
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("held outside")
"""
    with (tmp_path / "lock").open("w") as file:
        assert run(code).stdout == ""
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run(code).stdout == "held outside\n"


def test_root_inside_keeps_its_files_and_has_no_way_back():
    """Every id is what it was; the network of the machine is not to be entered again."""
    code = """
there = os.open("/proc/self/ns/net", os.O_RDONLY)
before = os.stat("/").st_uid
enter(JailMode.NAMESPACE, Needs())
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(os.stat("/").st_uid == before or os.geteuid() != 0, libc.setns(there, 0), os.strerror(ctypes.get_errno()))
"""
    assert run(code).stdout == "True -1 Operation not permitted\n"


@pytest.fixture
def as_another_user():
    """Words that start Python as a user without root, and a folder with the package that it can read."""
    python = shutil.which("python3", path="/usr/bin")
    recent = [python or "false", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if os.geteuid() != 0 or subprocess.run(recent, check=False).returncode != 0:
        pytest.skip("needs root to become another user, and a Python 3.11 that it can read")
    shown = Path("/tmp", f"guard-other-user-{os.getpid()}")
    for name in ("__init__.py", "guard", "execution", "contracts/__init__.py", "contracts/errors.py"):
        source, target = ROOT / "finetune" / name, shown / "finetune" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    shown.chmod(0o755)
    yield ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--", str(python)], shown
    shutil.rmtree(shown)


@pytest.mark.parametrize("mode", ["NAMESPACE", "SECCOMP"])
def test_a_user_without_root_has_the_same_jail(outside, as_another_user, mode):
    command, folder = as_another_user
    code = f"{ENTER}\nenter(JailMode.{mode}, Needs()); assert os.getuid() == 1234\n{ATTEMPTS}"
    done = subprocess.run([*command, "-c", code, str(outside)], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not any(json.loads(done.stdout).values())


def test_who_looks_names_up_for_others_is_out_of_sight():
    prepare = 'mount -t tmpfs none /run && mkdir /run/nscd && touch /run/nscd/socket; exec "$@"'
    before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", prepare, "sh"]
    code = "print(os.listdir('/run/nscd')); enter(JailMode.NAMESPACE, Needs()); print(os.listdir('/run/nscd'))"
    assert run(code, before=before).stdout == "['socket']\n[]\n"


NESTED = """
from pathlib import Path
from finetune.execution.jail import Jail
assert enter(JailMode.NAMESPACE, Needs()) == ""
print(Jail.open().run(["/bin/sh", "-c", "echo ran"], tree=Path("/usr/share")).stdout, end="")
"""


def test_code_under_test_has_its_own_jail_inside():
    assert run(NESTED).stdout == "ran\n"


def test_code_under_test_has_its_own_jail_inside_for_a_user_without_root(as_another_user):
    command, folder = as_another_user
    path = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([*command, "-c", ENTER + NESTED], cwd=folder, capture_output=True, check=False, env=path)
    assert (done.stdout, done.stderr) == (b"ran\n", b"")
