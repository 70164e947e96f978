"""Each attack on the jail is really tried, with a control that shows that the attack itself works."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune.contracts.errors import InputError, MachineError
from finetune.execution import host as host_module
from finetune.execution.jail import Jail, Limits

PYTHON = [Path(sys.base_prefix), Path(sys.prefix), Path(sys.executable).resolve().parent.parent]
READABLE = sorted({path for path in PYTHON if not path.is_relative_to("/usr")})


def python(jail, tree, code, **options):
    return jail.run([sys.executable, "-I", "-S", "-c", code], tree=tree, readable=READABLE, **options)


def alive(marker):
    """Whether a process of the host has marker among its arguments."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


def dies(marker):
    deadline = time.monotonic() + 5
    while alive(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(marker)


def test_a_plain_program_runs_and_its_exit_code_is_heard(shell):
    result = shell("echo out; echo err >&2; exit 7")
    assert (result.outcome, result.exit_code, result.stdout, result.stderr) == ("exited", 7, "out\n", "err\n")


def test_a_signal_is_heard_as_the_shell_tells_it(shell):
    assert shell("kill -9 $$").exit_code == 137


def test_a_program_that_is_not_there_is_infrastructure_not_a_failure(jail, tree):
    result = jail.run(["/no/such/program"], tree=tree)
    assert (result.outcome, result.exit_code) == ("infrastructure", None)
    assert "/no/such/program" in result.note


def test_an_exit_code_of_127_from_the_program_itself_is_its_own(shell):
    assert (shell("exit 127").outcome, shell("exit 127").exit_code) == ("exited", 127)


def test_the_caller_cannot_be_told_that_nothing_ran(shell):
    result = shell("echo '/bin/x is not visible in the jail' >&2; exit 127")
    assert result.outcome == "exited"


def test_an_interpreter_under_a_closed_folder_runs(jail, tree, tmp_path):
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    program = closed / "bin" / "tool"
    program.write_text("#!/bin/sh\necho tool\n")
    program.chmod(0o755)
    closed.parent.chmod(0o700)
    assert jail.run([str(program)], tree=tree, readable=[closed]).stdout == "tool\n"
    assert jail.run([str(program)], tree=tree).outcome == "infrastructure"


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_a_listener_on_the_hosts_loopback_is_not_reached(jail, tree, kind):
    with socket.socket(socket.AF_INET, getattr(socket, kind)) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.3)
        if kind == "SOCK_STREAM":
            listener.listen()
        code = f"import socket; s = socket.socket(socket.AF_INET, socket.{kind}); s.connect({listener.getsockname()!r})"
        code += "; s.send(b'secret')"
        result = python(jail, tree, code)
        with pytest.raises(TimeoutError):
            listener.accept() if kind == "SOCK_STREAM" else listener.recv(16)
        # the same words from outside the jail arrive
        subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
        if kind == "SOCK_STREAM":
            listener.accept()[0].close()
        else:
            assert listener.recv(16) == b"secret"
    assert kind == "SOCK_DGRAM" or result.exit_code == 1


@pytest.mark.parametrize("action", ["connect(('192.0.2.1', 80))", "connect(('2001:db8::1', 80))"])
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_no_address_outside_is_reached(jail, tree, action, kind):
    family = "AF_INET6" if "db8" in action else "AF_INET"
    result = python(jail, tree, f"import socket; socket.socket(socket.{family}, socket.{kind}).{action}")
    assert result.exit_code == 1
    assert "unreachable" in result.stderr or "assign requested address" in result.stderr


def test_no_name_is_looked_up(jail, tree):
    result = python(jail, tree, "import socket; socket.getaddrinfo('example.org', 80)")
    assert "gaierror" in result.stderr


def test_the_jails_own_loopback_works(jail, tree):
    code = (
        "import socket; s = socket.create_server(('localhost', 0)); socket.create_connection(s.getsockname()); print(1)"
    )
    assert python(jail, tree, code).stdout == "1\n"


def test_a_fork_bomb_meets_the_limit_and_another_jail_runs_beside_it(jail, tree, shell):
    code = (
        "import os, time\nchildren = 0\n"
        "try:\n    while True:\n        if os.fork() == 0:\n            time.sleep(60)\n        children += 1\n"
        "except BlockingIOError:\n    print(children, flush=True)\n    time.sleep(1)\n"
    )
    bomb = python(jail, tree, code, limits=Limits(max_processes=20, timeout_seconds=0.8))
    assert 5 <= int(bomb.stdout) < 20
    assert shell(":", limits=Limits(max_processes=20)).exit_code == 0


@pytest.mark.parametrize("stream", [1, 2])
def test_an_output_flood_is_cut(shell, stream):
    result = shell(f"while :; do echo flood >&{stream}; done", limits=Limits(output_bytes=10_000))
    assert result.outcome == "output limit"
    assert len(result.stdout) + len(result.stderr) <= 10_000
    assert result.seconds < 5


def test_the_disk_is_full_at_its_limit_over_all_writable_folders(jail, tree):
    code = (
        "import os\nfull = 0\n"
        "for folder in ('/tmp', os.environ['HOME'], '/dev/shm'):\n"
        "    try:\n        open(folder + '/f', 'wb').write(bytes(5 << 20))\n"
        "    except OSError as error:\n        full += 1\n"
        "print(full)"
    )
    assert python(jail, tree, code, limits=Limits(disk_bytes=8 << 20)).stdout == "2\n"


def test_no_file_is_larger_than_the_disk(shell):
    result = shell("truncate -s 9000000 /tmp/f; echo $?", limits=Limits(disk_bytes=8 << 20))
    assert result.stdout != "0\n"


def test_empty_files_without_end_are_stopped(jail, tree):
    code = "import os\nos.chdir('/tmp')\nfor n in range(70000): os.close(os.open(str(n), os.O_CREAT))"
    assert "No space left" in python(jail, tree, code).stderr


def test_a_process_that_takes_memory_is_refused(jail, tree):
    result = python(jail, tree, "x = bytearray(1 << 29)", limits=Limits(memory_bytes=1 << 28))
    assert "MemoryError" in result.stderr


@pytest.mark.parametrize(
    "hog",
    [
        # each below the limit, together above it
        "import os, time\nfor _ in range(3): os.fork()\nx = bytearray(os.urandom(1)) * (50 << 20); time.sleep(60)",
        # shared memory is no process's own
        "import mmap, time\nm = mmap.mmap(-1, 1 << 28)\nfor n in range(0, 1 << 28, 4096): m[n] = 1\ntime.sleep(60)",
    ],
)
def test_a_jail_that_takes_memory_is_ended(jail, tree, hog):
    result = python(jail, tree, hog, limits=Limits(memory_bytes=200 << 20, timeout_seconds=20))
    assert (result.outcome, result.exit_code) == ("exited", 137)
    assert "memory" in result.note


def test_memory_that_forks_share_counts_once(jail, tree):
    code = "import os, time\nx = bytearray(os.urandom(1)) * (100 << 20)\nfor _ in range(2): os.fork()\ntime.sleep(0.4)"
    result = python(jail, tree, code, limits=Limits(memory_bytes=200 << 20))
    assert (result.exit_code, result.note) == (0, "")


def test_open_files_are_limited(jail, tree):
    result = python(jail, tree, "f = [open('/dev/null') for _ in range(64)]", limits=Limits(max_open_files=32))
    assert "Too many open files" in result.stderr


def test_a_run_without_end_is_ended_with_all_its_processes(shell):
    result = shell("setsid sleep 4711.1 & setsid setsid sleep 4711.1 & wait", limits=Limits(timeout_seconds=0.5))
    assert (result.outcome, result.exit_code) == ("timed out", None)
    assert dies("4711.1")


def test_what_was_left_in_the_background_dies_with_the_command(shell):
    result = shell("setsid sleep 4711.2 >/dev/null 2>&1 & nohup sleep 4711.2 & exit 3")
    assert (result.outcome, result.exit_code) == ("exited", 3)
    assert dies("4711.2")


def test_the_jail_dies_when_its_caller_is_killed(tree):
    code = (
        "from pathlib import Path; from finetune.execution.jail import Jail; jail = Jail.open(); "
        f"print('open', flush=True); jail.run(['sleep', '4711.3'], tree=Path({str(tree)!r}))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[4])
    assert caller.stdout.readline() == b"open\n"
    while not alive("4711.3"):
        time.sleep(0.01)
    time.sleep(0.3)
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert dies("4711.3")


def test_no_secret_of_the_caller_is_seen(shell, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "s3cret-of-the-caller")
    result = shell("env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'", environment={"GIVEN": "yes"})
    assert "GIVEN=yes" in result.stdout
    assert "s3cret" not in result.stdout + result.stderr


def test_files_of_the_host_are_not_seen(shell, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    paths = [
        secret,
        Path("/etc/shadow"),
        Path("/etc/machine-id"),
        Path("/etc/ssh"),
        Path("/var"),
        Path("/run"),
        Path("/sys"),
    ]
    paths += [path for home in (Path.home(), Path("/root")) for path in home.glob(".[a-z]*") if path not in READABLE]
    for path in paths:
        assert shell(f"test -e {path} && ls -A {path} | grep -v -x -F .pyenv").exit_code == 1, path


def test_nothing_outside_the_disk_can_be_written(shell, tree):
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    places = "/x /dev/x /etc/x /usr/x /repo/x /repo/package/x /home/x /proc/x /proc/sys/kernel/hostname"
    result = shell(f"for f in {places}; do (echo x > $f) 2>/dev/null && echo $f; done; rm -rf /repo/* 2>/dev/null; ls")
    assert result.stdout == "package\nscript.sh\n"
    assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == before


def test_processes_of_the_host_are_neither_seen_nor_killed(jail, tree):
    with subprocess.Popen(["/bin/sleep", "4711.4"]) as victim:
        code = f"import os\nprint(sorted(n for n in os.listdir('/proc') if n.isdigit()))\nos.kill({victim.pid}, 9)"
        result = python(jail, tree, code)
        assert victim.poll() is None
        victim.kill()
    assert result.stdout == "['1', '2']\n"
    assert "ProcessLookupError" in result.stderr


def test_no_process_of_the_host_is_traced(jail, tree):
    code = f"import ctypes\nprint(ctypes.CDLL(None).ptrace(16, {os.getpid()}, 0, 0))"
    assert jail.run([sys.executable, "-I", "-c", code], tree=tree, readable=READABLE).stdout == "-1\n"


def test_there_is_no_privilege_and_no_way_to_one(shell):
    result = shell("id -u; grep -E 'Cap(Eff|Prm|Bnd)|NoNewPrivs' /proc/self/status; unshare --user --map-root-user id")
    assert result.stdout.split() == ["1000", *["CapPrm:", "0000000000000000", "CapEff:", "0000000000000000"],
                                     "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]  # fmt: skip
    assert result.exit_code != 0


def test_the_history_is_not_seen(shell):
    assert shell("ls -A; test -e .git").stdout == "package\nscript.sh\n"


def test_an_overlay_replaces_adds_and_hides(shell, tree):
    overlay = {"script.sh": b"echo new\n", "package/other/added.py": b"x\n", "package/module.py": None}
    result = shell("./script.sh; find package -type f", overlay=overlay)
    assert result.stdout == "new\npackage/other/added.py\n"
    assert (tree / "script.sh").read_text() == "echo old\n"
    assert (tree / "package/module.py").exists()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", ".", "", "a//b", ".git/hooks/x", "a\0b", "link/x"]
)
def test_an_overlay_stays_inside_the_tree(shell, tree, tmp_path, name):
    (tree / "link").symlink_to(tmp_path)
    with pytest.raises(InputError):
        shell(":", overlay={name: b"x"})


def test_links_of_the_tree_lead_nowhere_outside(shell, tree, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tree / "link").symlink_to(tmp_path / "secret")
    (tree / "up").symlink_to("../secret")
    assert shell("cat link up").stdout == ""
    assert shell("cat link", overlay={"link": b"mine"}).stdout == "mine"
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.mark.parametrize("path", ["/", str(Path.home()), "/root", "/home", "/etc", "relative", "/no/such/folder"])
def test_a_home_is_never_shown(shell, path):
    with pytest.raises(InputError):
        shell(":", readable=[Path(path)])


def test_the_hosts_mounts_are_as_before(shell):
    before = Path("/proc/self/mounts").read_text()
    shell("echo hello")
    assert Path("/proc/self/mounts").read_text() == before


def test_a_machine_without_bubblewrap_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(host_module, "SYSTEM_PATH", "/no/such/folder")
    monkeypatch.setattr(Jail, "_opened", None)
    with pytest.raises(MachineError, match="bwrap.*apt-get install -y bubblewrap"):
        Jail.open()


def test_a_file_that_may_be_rewritten_is_a_copy_and_the_others_are_not(shell, tree):
    script = "echo VALUE = 2 > package/module.py && cat package/module.py; echo new > script.sh || echo kept"
    result = shell(script, writable=["package/module.py"])
    assert result.stdout == "VALUE = 2\nkept\n"
    assert (tree / "package" / "module.py").read_text() == "VALUE = 1\n"
    assert shell("echo x > package/module.py || echo kept").stdout == "kept\n"


def test_a_file_outside_the_tree_cannot_be_made_writable(shell):
    with pytest.raises(InputError, match="not a path inside a tree"):
        shell("true", writable=["../outside"])
