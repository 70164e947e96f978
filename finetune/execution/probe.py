"""Attacks on the jail that must fail and programs that must succeed, tried before anything else is run in it."""

import json
import socket
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.contracts.errors import MachineError
from finetune.execution.mounts import TREE

if TYPE_CHECKING:
    from finetune.execution.jail import Jail, JailResult

HINT = (
    "Run as root, or allow user namespaces: sysctl -w user.max_user_namespaces=15000, on Ubuntu also "
    "kernel.apparmor_restrict_unprivileged_userns=0. Linux 5.14 or newer is needed; a container needs SYS_ADMIN."
)
SECRET = "jail-probe-secret"  # noqa: S105 - what an attack looks for
NUM_PROCESSES = 16
ENDLESS = ("/bin/sh", "-c", "sleep 60")


def probe(jail: "Jail") -> None:
    """Raises MachineError when a plain program does not run in the jail, or when an attack gets through."""
    with tempfile.TemporaryDirectory() as name, _listener() as listener:
        folder = Path(name)
        outside, tree = folder / "outside", folder / "tree"
        # permissions must not be what hides it
        folder.chmod(0o755)
        outside.write_text(SECRET)
        tree.mkdir(mode=0o755)
        (tree / "kept").write_text(SECRET)
        port = listener.getsockname()[1]
        # that the attack can succeed at all: the same connection from here
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        listener.accept()[0].close()
        result = _attack(jail, tree, [str(port), str(outside)])
        _require_report(result)
        got_through = [*json.loads(result.stdout)["succeeded"]]
        got_through += ["write outside"] * (outside.read_text() != SECRET)
        got_through += ["write to the tree"] * ([*tree.iterdir()] != [tree / "kept"])
        got_through += _limits_missed(jail, tree)
    if got_through:
        raise MachineError(f"The jail does not hold: {', '.join(got_through)} got through; no code is run.", HINT)


def _listener() -> socket.socket:
    """What the attack must not reach."""
    try:
        return socket.create_server(("127.0.0.1", 0))
    except OSError as error:  # under a filter of system calls: `--jail seccomp`
        raise MachineError(
            f"No code under test is run here, for its jail cannot be attacked first: {error}.",
            "Run the command with --jail namespace, or leave out what runs tests.",
        ) from error


def _attack(jail: "Jail", tree: Path, words: list[str]) -> "JailResult":
    from finetune.execution.jail import Limits

    program = files("finetune.execution").joinpath("probe_inside.py").read_bytes()
    prefixes = {Path(sys.base_prefix), Path(sys.prefix), Path(sys.executable).resolve().parent.parent}
    return jail.run(
        [sys.executable, "-I", "-S", f"{TREE}/attack.py", *words],
        tree=tree,
        overlay={"attack.py": program},
        readable=[path for path in prefixes if not path.is_relative_to("/usr")],
        limits=Limits(timeout_seconds=30, max_processes=NUM_PROCESSES, memory_bytes=256 << 20, disk_bytes=8 << 20),
    )


def _require_report(result: "JailResult") -> None:
    if result.outcome == "exited" and result.exit_code == 0 and result.stdout.startswith("{"):
        return
    why = result.note or result.stderr.strip()[-400:] or f"exit code {result.exit_code}"
    raise MachineError(f"No jail on this machine, so no code under test is run: {why}.", HINT)


def _limits_missed(jail: "Jail", tree: Path) -> list[str]:
    from finetune.execution.jail import Limits

    late = jail.run(ENDLESS, tree=tree, limits=Limits(timeout_seconds=0.5))
    if late.outcome == "infrastructure":  # a busy machine may take longer than that to start one
        late = jail.run(ENDLESS, tree=tree, limits=Limits(timeout_seconds=10))
    loud = jail.run(["/bin/sh", "-c", "while :; do echo flood; done"], tree=tree, limits=Limits(output_bytes=1 << 12))
    code = jail.run(["/bin/sh", "-c", "exit 7"], tree=tree)
    return (
        ["a run without end"] * (late.outcome != "timed out")
        + ["an output flood"] * (loud.outcome != "output limit")
        + ["a wrong exit code"] * (code.exit_code != 7)
    )
